"""Keeps a hand-off bundle with its run, so that a published folder that was lost can be made again.

The model itself is left out of the run's copy: the registry has it under the version. ``bundle.json`` lists every file
with its sha256, so that a restored bundle is proven equal before it is used.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pipeline.core import digests
from pipeline.core.errors import RegistryError
from pipeline.core.files import replacing
from pipeline.tracking.registry import Registry, Version
from pipeline.tracking.session import Session, asking_mlflow

INDEX = "bundle.json"
FOLDER = "bundle"
RUN_TAG = "bundle_run"
"""A version's tag: the run that keeps its bundle."""


@asking_mlflow("keep the bundle")
def log_bundle(session: Session, run_id: str, bundle: Path, model_sha256: str) -> None:
    """Log every file of ``bundle`` but copies of the model."""
    files = {path.relative_to(bundle).as_posix(): digests.of_file(path) for path in _files(bundle)}
    with tempfile.TemporaryDirectory() as scratch:
        for name, sha256 in files.items():
            if sha256 != model_sha256:
                copy = Path(scratch, FOLDER, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / name, copy)
        Path(scratch, INDEX).write_text(json.dumps(files, indent=2, sort_keys=True), encoding="utf-8")
        session.client.log_artifacts(run_id, scratch)


@asking_mlflow("hand out the bundle")
def restore_bundle(registry: Registry, version: Version, destination: Path, sign: Callable[[Path], object]) -> None:
    """Make ``destination`` the bundle of ``version`` again, signed, whole or not at all.

    Raises:
        RegistryError: its run or a file of it is gone, or a file is not the one that was kept.
    """
    from mlflow import MlflowException
    from mlflow.artifacts import download_artifacts

    session = registry.session
    run_id = version.tags.get(RUN_TAG, version.run_id)
    with tempfile.TemporaryDirectory() as scratch, replacing(destination) as fresh:
        model = registry.fetch(version, Path(scratch, "model"))
        try:
            kept = Path(download_artifacts(run_id=run_id, dst_path=scratch, tracking_uri=session.uri))
            files = json.loads((kept / INDEX).read_text(encoding="utf-8"))
        except (MlflowException, OSError) as error:
            raise _lost(version, run_id, f"no bundle there ({type(error).__name__})") from None
        for name, sha256 in files.items():
            if not _is_inside(name):
                raise _lost(version, run_id, f"a file that is to lie outside the bundle, '{name}'")
            source = model if sha256 == version.sha256 else kept / FOLDER / name
            if not source.is_file() or digests.of_file(source) != sha256:
                raise _lost(version, run_id, f"'{name}' missing or changed")
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, fresh / name)
        sign(fresh)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_inside(name: str) -> bool:
    """A name within the bundle; the index is the store's word, and may say otherwise."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and bool(path.parts)


def _lost(version: Version, run_id: str, found: str) -> RegistryError:
    return RegistryError(
        expected=f"the bundle of {version} among the artifacts of its run",
        found=found,
        where=f"run {run_id}",
        remedy="Restore the hand-off folder or the artifacts from a backup, or retrain with graftline run.",
    )
