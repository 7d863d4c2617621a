"""What tests of the whole job share: a workspace of seconds, and the commands as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline import params
from pipeline.workspace import create

SMALL = (
    "ingest.source.images_per_class=30",
    "backbone.pretrain.epochs=2",
    "train.strategy.name=probe",
    "train.threads=1",
    "explain.images=16",
    "explain.classes=2",
    "gate.gates.accuracy_floor.min=0.2",
    "gate.gates.worst_class_recall.min=0",
    "gate.gates.calibration=false",
    "gate.gates.latency=false",
    "gate.gates.not_worse_than_champion.margin=1",
)


def environment() -> dict[str, str]:
    """The commands of this virtual environment first on the path."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def graftline(*arguments: str, workspace: Path) -> subprocess.CompletedProcess[str]:
    """``graftline …`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments, "-C", str(workspace)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=workspace,
    )


def dvc(*arguments: str, workspace: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, env=environment(), cwd=workspace
    )


def small_workspace(folder: Path) -> Path:
    """A fresh workspace with a job of seconds."""
    for _ in create(folder, target=None, source=None, preset="digits", version_data=False):
        pass
    params.assign(folder, list(SMALL))
    return folder
