"""The hand-off folder: ``v1``, ``v2``, … and the pointer ``current``, a relative symlink.

A reader of ``current`` sees one whole bundle or another whole bundle: a version is copied under a temporary name and
renamed, and the pointer is replaced by a rename.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import digests
from pipeline.core.errors import ServiceError, WorkspaceError
from pipeline.core.files import replacing
from pipeline.tracking.bundles import restore_bundle
from pipeline.tracking.registry import Registry, Version

CURRENT = "current"
MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Published:
    """What :func:`publish` changed, for :func:`undo_publish`."""

    version: int
    replaced: str | None
    """Name that ``current`` pointed at before, e.g. ``v1``."""
    created: bool
    """The folder was not there before."""


def publish(handoff: Path, bundle: Path, version: int) -> Published:
    """Copy ``bundle`` to ``handoff/v<version>``, prove the copy, then point ``current`` at it.

    Raises:
        WorkspaceError: there is no bundle.
        ServiceError: the copy is not equal to the bundle, or the disk refused.
    """
    if not (bundle / MODEL_FILE).is_file():
        raise WorkspaceError(
            expected="a bundle to publish",
            found=f"no {MODEL_FILE} in {bundle}",
            where=str(bundle.parent),
            remedy="Bring the stages up to date first: graftline run (or dvc repro).",
        )
    place = handoff / f"v{version}"
    created, wanted = not place.exists(), digests.of_path(bundle)
    if created or digests.of_path(place) != wanted:
        with replacing(place) as fresh:
            shutil.copytree(bundle, fresh)
            if digests.of_path(fresh) != wanted:
                raise ServiceError(f"The copy of {bundle} in {handoff} is not equal to it; nothing was published.")
    return Published(version, replaced=point(handoff, version), created=created)


def undo_publish(handoff: Path, published: Published) -> None:
    """Point ``current`` back at what it was; remove the version's folder if it was new."""
    if published.replaced:
        _point(handoff, published.replaced)
    else:
        (handoff / CURRENT).unlink(missing_ok=True)
    if published.created:
        shutil.rmtree(handoff / f"v{published.version}", ignore_errors=True)


def point(handoff: Path, version: int) -> str | None:
    """Point ``current`` at ``v<version>`` in one rename; return what it pointed at before."""
    before = pointed_at(handoff)
    if before != f"v{version}":
        _point(handoff, f"v{version}")
    return before


def pointed_at(handoff: Path) -> str | None:
    pointer = handoff / CURRENT
    return os.readlink(pointer) if pointer.is_symlink() else None


def ensure_published(handoff: Path, registry: Registry, version: Version) -> None:
    """See that ``handoff/v<N>`` holds this version, made again from what MLflow keeps where it does not.

    Raises:
        RegistryError: it is lost here and there.
    """
    place = handoff / f"v{version.number}"
    model = place / MODEL_FILE
    if not model.is_file() or digests.of_file(model) != version.sha256:
        restore_bundle(registry, version, place)


def _point(handoff: Path, name: str) -> None:
    holder = Path(tempfile.mkdtemp(prefix=f".{CURRENT}.", dir=handoff))
    try:
        os.symlink(name, holder / CURRENT)
        os.replace(holder / CURRENT, handoff / CURRENT)
    except OSError as error:
        raise ServiceError(f"Cannot move {handoff / CURRENT} to {name}: {error.strerror}.") from None
    finally:
        shutil.rmtree(holder, ignore_errors=True)
