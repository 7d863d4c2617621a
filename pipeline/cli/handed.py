"""A model that is handed to a command: where it lies, and whether it may be trusted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import BundleError, InputError

if TYPE_CHECKING:
    from pipeline.serving.signature import Signed

MODEL_HELP = "A bundle folder, an .onnx file, `champion`, `previous`, `challenger` (what the stages made last) or `v3`."
KEY_HELP = "Public key of who signed the bundle (PEM), if not this workspace."

IN_WORKSPACE = (
    "graftline models lists the versions of this workspace, graftline run hands its champion off again where that has "
    "gone, -C names another workspace."
)
"""Remedy for a name that leads to no model there."""


def find(model: str, workspace: Path, command: str) -> Path:
    """A path as it is; an alias or a version, alone or as ``NAME@champion``, through the workspace's own folders.

    Raises:
        BundleError: there is none.
    """
    if Path(model).exists():
        return Path(model)
    is_workspace = _is_workspace(workspace)
    place = _by_alias(model.rpartition("@")[2], workspace) if is_workspace else None
    if place is not None and place.exists():
        return place
    found = f"'{model}', which does not exist, and no workspace in {workspace}"
    remedy = "Check the path, or name the workspace with -C."
    if is_workspace:
        found, remedy = _not_here(model, handed_off=place)
    raise BundleError(
        expected="a bundle folder, an .onnx file, `champion`, `previous`, `challenger` or a version such as `v1`",
        found=found,
        where=f"the first argument of graftline {command}",
        remedy=remedy,
    )


def _not_here(model: str, *, handed_off: Path | None) -> tuple[str, str]:
    """Of a name that leads to no folder of this workspace, but to ``handed_off``: what was found, and the remedy."""
    alias = model.rpartition("@")[2]
    if alias == "champion":
        return f"no {handed_off}: no champion was handed off", f"Where one is meant to be: {IN_WORKSPACE}"
    if alias == "previous" and handed_off is None:
        return "no champion before the present one", IN_WORKSPACE
    if alias == "previous":
        return f"no {handed_off}", "graftline rollback hands that one off again, as champion."
    if re.fullmatch(r"v[1-9][0-9]*", alias):
        return f"no {handed_off}", f"{IN_WORKSPACE} graftline promote {alias} hands one of these off, as champion."
    return f"'{model}', which does not exist", IN_WORKSPACE


def prove(bundle: Path, workspace: Path, key: Path | None) -> Signed:
    """See that ``key``, or the workspace's own, has signed this bundle.

    Raises:
        BundleError: it has not, or there is no key to tell by.
    """
    from pipeline.serving import signature, signing_key

    if not signature.is_signed(bundle):
        raise signature.unsigned(bundle)  # before the key is asked for: none would help
    return signature.verify(bundle, signing_key.PublicKey.load(key or signing_key.public(workspace)))


def prove_before_loading(model: Path, workspace: Path, key: Path | None, *, unverified: bool) -> None:
    """A bundle is loaded when its signature holds, and so is what can have none: a bare ``.onnx`` file, and the bundle
    that this workspace's stages have made and not handed off yet.

    Raises:
        BundleError: the signature is missing or does not hold.
        InputError: the options contradict one another, or there is nothing to hold the key against.
    """
    if key is not None and (unverified or model.is_file()):
        other = "--unverified" if unverified else f"{model}, a file without a signature"
        raise InputError(
            expected="a bundle folder to verify with --key",
            found=other,
            where="graftline predict",
            remedy="Drop --key, or give the folder that was handed off.",
        )
    from pipeline.serving import layout

    if unverified or not (model / layout.MODEL).is_file() or (key is None and _is_own_unpublished(model, workspace)):
        return
    try:
        prove(model, workspace, key)
    except BundleError as error:
        remedy = f"{error.remedy} To load it all the same: --unverified."
        raise BundleError(expected=error.expected, found=error.found, where=error.where, remedy=remedy) from error


def _is_own_unpublished(model: Path, workspace: Path) -> bool:
    return _is_workspace(workspace) and model.resolve() == (workspace / "bundle").resolve()


def _is_workspace(folder: Path) -> bool:
    from pipeline import params

    return (folder / params.FILE).exists()


def _by_alias(alias: str, workspace: Path) -> Path | None:
    """Where the model of an alias lies: published versions in the hand-off folder, the latest in ``bundle``."""
    from pipeline import params
    from pipeline.release.history import History

    settings = params.load(workspace)
    handoff = workspace / settings.publish.handoff
    if alias == "challenger":
        return workspace / "bundle"
    if alias == "previous":
        champions = History(workspace).champions(settings.model)
        return handoff / f"v{champions[-2]}" if len(champions) > 1 else None
    return handoff / ("current" if alias == "champion" else alias)
