"""Whose a hand-off folder is: two models that number their versions each for itself would overwrite one another there.

A folder outside the workspace is marked by the first who publishes to it: ``owner.json`` names the model and the
tracking store, which is also the registry. Another workspace with that model and that store may publish there too, as
its versions are of the same series. A folder inside the workspace needs no mark; one that bears a mark is the marker's
there too. Versions in an unmarked folder elsewhere are those of the workspace around it, and nobody else marks it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from pipeline.core.errors import WorkspaceError
from pipeline.core.files import Document

FILE = "owner.json"


class Owner(Document):
    """``owner.json`` in a hand-off folder."""

    model: str
    store: str
    """Address of the tracking store, without credentials."""
    workspace: str
    """The one that marked the folder, for people."""


def check(handoff: Path, workspace: Path, owner: Owner) -> None:
    """See that the folder is nobody else's.

    Raises:
        WorkspaceError: it belongs to another model, or to the same name in another registry; or it lies outside the
            workspace and holds versions, and nobody knows whose.
    """
    file = handoff / FILE
    if not file.is_file():
        if not _is_inside(handoff, workspace):
            _check_is_free(handoff, owner)
        return
    try:
        found = Owner.load(file)
    except ValueError:  # cut off, or somebody else's file of that name
        raise WorkspaceError(
            expected=f"the model that owns {handoff}",
            found=f"{file}, which does not say",
            where="publish.handoff in params.yaml",
            remedy="Name another folder; or delete the file if all versions there are this model's.",
        ) from None
    if (found.model, found.store) != (owner.model, owner.store):
        raise WorkspaceError(
            expected=f"a hand-off folder for model '{owner.model}' of {owner.store} alone",
            found=f"{handoff}, which belongs to model '{found.model}' of {found.store} (workspace {found.workspace})",
            where="publish.handoff in params.yaml",
            remedy="Give each model a folder of its own. If this is that model under another name or address, delete "
            f"{file}.",
        )


def claim(handoff: Path, workspace: Path, owner: Owner) -> None:
    """Mark the folder as this owner's; of two who come at the same moment one is first, and the other is refused.

    Raises:
        WorkspaceError: it belongs to somebody else.
    """
    if not _is_inside(handoff, workspace) and not (handoff / FILE).is_file():
        _check_is_free(handoff, owner)
        handoff.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".owner-", dir=handoff) as scratch:
            whole = Path(scratch, FILE)
            owner.save(whole)
            with contextlib.suppress(FileExistsError):  # somebody was faster: who, is looked at below
                os.link(whole, handoff / FILE)
    check(handoff, workspace, owner)


def _is_inside(handoff: Path, workspace: Path) -> bool:
    return handoff.resolve().is_relative_to(workspace.resolve())


def _check_is_free(handoff: Path, owner: Owner) -> None:
    """See that an unmarked folder, which others may name, holds no version.

    Raises:
        WorkspaceError: it does.
    """
    there = handoff.iterdir() if handoff.is_dir() else iter(())
    versions = sorted(path.name for path in there if path.name == "current" or re.fullmatch(r"v\d+(\.new)?", path.name))
    if versions:
        raise WorkspaceError(
            expected=f"a hand-off folder that is this model's, or empty: {handoff}",
            found=f"{', '.join(versions[:3])}{', …' * (len(versions) > 3)} in it, and no {FILE} that says whose",
            where="publish.handoff in params.yaml",
            remedy="Name another folder; or, if all versions there are this model's and no other workspace publishes "
            f"there, write this into {handoff / FILE}: {owner.model_dump_json()}",
        )
