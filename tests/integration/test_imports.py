"""What a command loads: people wait for every package before the first line appears."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from integration_tools import heavy_packages_of

from pipeline.core.file_state import settled

ALLOWED = {
    "history": set(),
    "strategies": set(),
    "render --check": set(),
    "status": {"dvc"},
    "predict bundle image.png": {"onnx", "onnxruntime"},
    "predict champion image.png": {"onnx", "onnxruntime"},
    "verify champion": set(),
    "report": {"pandas", "pyarrow"},
    "stage gate": set(),
    "models": set(),
    "run --inline": {"dvc"},
    "run": {"dvc", "prefect"},
}
"""onnx takes a tenth of a second: it looks into a file before it is run. MLflow would take two seconds: what it told
the last run is known as long as nobody has written to its database."""


ASKING = {"models", "run --inline", "run"}
"""They ask the registry."""


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_loads_what_it_needs_and_no_more(finished: Path, command: str) -> None:
    """In a workspace after a run, which has left nothing to do; the registry was asked since its last change."""
    image = next(finished.glob("bundle/**/*.png"), None)
    arguments = [str(image) if word == "image.png" else word for word in command.split()]
    if command in ASKING:
        while settled(finished / ".graftline/mlflow.db") is None:
            time.sleep(0.1)
        heavy_packages_of("models", folder=finished)
    assert heavy_packages_of(*arguments, folder=finished) <= ALLOWED[command]
