"""What tests of the whole job share: a workspace of seconds, and the commands as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.graph.table import STAGES, Stage
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


FROM_A_CLOCK = {"latency", "trials", "data_docs"}
"""Outputs that tell measured times or dates; every other one must be equal bit for bit."""

HEAVY = {
    *("torch", "torchvision", "onnx", "onnxruntime", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib"),
    *("mlflow", "prefect", "dvc", "great_expectations", "model_signing"),
}
"""Packages that take a tenth of a second or more to load."""

RUN_AND_TELL = f"""
import sys
from pipeline.cli import main
sys.argv = ["graftline", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print("code", ended.code)
print("loaded", *sorted(sys.modules.keys() & {HEAVY!r}))
"""


GRAFTLINE = (sys.executable, "-m", "pipeline.cli.program")
"""What the installed command runs, by this interpreter, whatever is first on the path."""


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
        [*GRAFTLINE, *arguments, "-C", str(workspace)],
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


def heavy_packages_of(*arguments: str, folder: Path | None = None) -> set[str]:
    """Which of :data:`HEAVY` ``graftline …`` loads in a fresh process; it must end well."""
    command = [sys.executable, "-c", RUN_AND_TELL, *arguments]
    done = subprocess.run(command, cwd=folder, env={**environment(), "BROWSER": "true"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, code, loaded = done.stdout.splitlines()
    assert code == "code 0", done.stdout + done.stderr
    return set(loaded.split()[1:])


def migrated_store(folder: Path) -> Path:
    """An MLflow database that was migrated once; copying it costs nothing."""
    from pipeline.tracking.session import open_session

    open_session(folder, "sqlite:///mlflow.db", "other")
    return folder / "mlflow.db"


def outputs_of(workspace: Path, stages: Iterable[Stage] = STAGES) -> dict[str, str]:
    """Digests of what the stages have made, but for what tells the time."""
    names = [name for stage in stages for name in stage.outputs if name not in FROM_A_CLOCK]
    return {name: digests.of_path(workspace / CATALOG[name].path) for name in names}
