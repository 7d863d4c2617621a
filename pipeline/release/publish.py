"""The hand-off folder: ``v1``, ``v2``, … and the pointer ``current``, a relative symlink.

A reader of ``current`` finds one whole bundle or another whole bundle: a version is copied under a temporary name and
renamed, and the pointer is replaced by a rename. Where a version is published again with other contents (the same
model under a new verdict), ``current`` points at a second copy, ``v1.new``, until the first is in place. A folder that
no longer verifies is restored from MLflow where it stands, by one exchange of names where the file system can.

A version is signed before it gets its name, and nothing is signed but what was just proven: a copy equal to the bundle
of the stages, or one restored from MLflow file by file. What a folder in the hand-off holds is never taken on trust.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import digests
from pipeline.core.errors import ServiceError, WorkspaceError
from pipeline.core.files import replacing
from pipeline.release.signer import Signer
from pipeline.serving.signature import digest_of_content
from pipeline.tracking.bundles import restore_bundle
from pipeline.tracking.registry import Version

if TYPE_CHECKING:
    from pipeline.release._desk import Desk

CURRENT = "current"
MODEL_FILE = "model.onnx"
STAND_IN = ".new"


@dataclass(frozen=True)
class Published:
    """What :func:`publish` changed, for :func:`undo_publish`."""

    version: int
    replaced: str | None
    """Name that ``current`` pointed at before, e.g. ``v1``."""
    created: bool
    """The folder was not there before."""


def publish(handoff: Path, bundle: Path, version: int, signer: Signer) -> Published:
    """Copy ``bundle`` to ``handoff/v<version>``, prove the copy and sign it, then point ``current`` at it.

    Raises:
        WorkspaceError: there is no bundle.
        ServiceError: the copy is not equal to the bundle, or the disk refused.
        ParamsError: there is no key to sign it with.
    """
    if not (bundle / MODEL_FILE).is_file():
        raise WorkspaceError(
            expected="a bundle to publish",
            found=f"no {MODEL_FILE} in {bundle}",
            where=str(bundle.parent),
            remedy="Bring the stages up to date first: graftline run (or dvc repro).",
        )
    place, before = handoff / f"v{version}", pointed_at(handoff)
    created = not place.exists()
    if created or digest_of_content(place) != digests.of_path(bundle) or not signer.has_signed(place):
        if before == place.name:
            _copy(bundle, _stand_in(place), signer)
            _point(handoff, _stand_in(place).name)
        _copy(bundle, place, signer)
    point(handoff, version)
    return Published(version, replaced=before and before.removesuffix(STAND_IN), created=created)


def undo_publish(handoff: Path, published: Published) -> None:
    """Point ``current`` back at what it was; remove the version's folder if it was new."""
    if published.replaced:
        _point(handoff, published.replaced)
    else:
        unpoint(handoff, published.version)
    if published.created:
        shutil.rmtree(handoff / f"v{published.version}", ignore_errors=True)


def point(handoff: Path, version: int) -> str | None:
    """Point ``current`` at ``v<version>`` in one rename; return what it pointed at before."""
    place, before = handoff / f"v{version}", pointed_at(handoff)
    if before != place.name:
        _point(handoff, place.name)
    shutil.rmtree(_stand_in(place), ignore_errors=True)
    return before


def unpoint(handoff: Path, version: int) -> None:
    """Remove ``current`` if it points at ``v<version>``."""
    if pointed_at(handoff) == f"v{version}":
        (handoff / CURRENT).unlink()


def pointed_at(handoff: Path) -> str | None:
    pointer = handoff / CURRENT
    return os.readlink(pointer) if pointer.is_symlink() else None


def ensure_published(desk: Desk, version: Version, digest: str | None = None) -> None:
    """See that ``handoff/v<N>`` holds this version, signed; made again from what MLflow keeps where it does not.

    Args:
        desk: whose hand-off, registry and signature.
        version: the version.
        digest: of the bundle that must be there, unsigned; without it any bundle of the version's model will do.

    Raises:
        RegistryError: it is lost here and there.
    """
    place = desk.claimed_handoff / f"v{version.number}"
    if not _holds(place, version, digest) or not desk.signer.has_signed(place):
        restore_bundle(desk.registry, version, place, desk.signer.sign)


def _holds(place: Path, version: Version, digest: str | None) -> bool:
    model = place / MODEL_FILE
    is_model = model.is_file() and digests.of_file(model) == version.sha256
    return is_model and digest in (None, digest_of_content(place))


def _copy(bundle: Path, place: Path, signer: Signer) -> None:
    with replacing(place) as fresh:
        shutil.copytree(bundle, fresh)
        if digests.of_path(fresh) != digests.of_path(bundle):
            raise ServiceError(f"The copy of {bundle} in {place.parent} is not equal to it; nothing was published.")
        signer.sign(fresh)


def _stand_in(place: Path) -> Path:
    return place.with_name(place.name + STAND_IN)


def _point(handoff: Path, name: str) -> None:
    try:
        with replacing(handoff / CURRENT) as fresh:
            os.symlink(name, fresh)
    except OSError as error:
        raise ServiceError(f"Cannot move {handoff / CURRENT} to {name}: {error.strerror}.") from None
