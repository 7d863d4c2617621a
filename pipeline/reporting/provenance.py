"""Where a model comes from: revision, digests, versions and machine, read when the report is written."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import digests
from pipeline.tracking.runs import ask_git

if TYPE_CHECKING:
    from pipeline.params import Settings

SOURCE = "Source manifest"

FILES = (
    ("Model", "models/model.onnx"),
    ("Target manifest", "data/manifest/target.parquet"),
    (SOURCE, "data/manifest/source.parquet"),
    ("Params", "params.yaml"),
    ("Stage lock", "dvc.lock"),
)
"""Files whose sha256 identifies the run."""

PACKAGES = (
    "graftline",
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "numpy",
    "mlflow",
    "prefect",
    "dvc",
)


def facts(workspace: Path, settings: Settings) -> list[tuple[str, str]]:
    """(what, value) pairs for people; a file that is not there is left out."""
    absent = () if settings.ingest.source else (SOURCE,)  # the stage writes an empty one all the same
    present = [(name, workspace / file) for name, file in FILES if name not in absent and (workspace / file).is_file()]
    return [
        ("Workspace", str(workspace.resolve())),
        ("Git revision", revision(workspace) or "none: the workspace is not in a git repository with a commit"),
        ("Seed", str(settings.seed)),
        *((name, f"sha256 {digests.of_file(path)}") for name, path in present),
        ("Versions", versions()),
        ("Machine", f"Python {platform.python_version()} · {platform.system()} {platform.machine()}"),
    ]


def revision(workspace: Path) -> str | None:
    """The commit of the workspace's repository, and whether tracked files differ from it; None without either."""
    commit = ask_git(workspace, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = ask_git(workspace, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} with uncommitted changes" if changed else commit


def versions() -> str:
    """``graftline 0.1.0 · torch 2.15.0 · …`` of the packages that are installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return " · ".join(found)
