"""What a command loads: people wait for every package before the first line appears."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("torch", "torchvision", "onnx", "onnxruntime", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib"),
    *("mlflow", "prefect", "dvc", "great_expectations"),
}
"""Each takes a tenth of a second or more."""

RUN = f"""
import sys
from pipeline.cli import main
sys.argv = ["graftline", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print("code", ended.code)
print("loaded", *sorted(sys.modules.keys() & {HEAVY!r}))
"""

ALLOWED = {
    "--help": set(),
    "history": set(),
    "strategies": set(),
    "render --check": set(),
    "status": {"dvc"},
    "predict bundle image.png": {"onnxruntime"},
    "report": {"pandas", "pyarrow"},
    "models": {"mlflow", "pandas", "pyarrow", "scipy"},
}
"""MLflow brings pandas, pyarrow and scipy."""


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_loads_what_it_needs_and_no_more(finished: Path, command: str, tmp_path: Path) -> None:
    """In a fresh process, in a workspace after a run."""
    image = next(finished.glob("bundle/**/*.png"), None)
    arguments = [str(image) if word == "image.png" else word for word in command.split()]
    environment = {**os.environ, "HOME": str(tmp_path), "BROWSER": "true"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=finished, env=environment, capture_output=True, text=True
    )
    *_, code, loaded = done.stdout.splitlines()
    assert code == "code 0", done.stdout + done.stderr
    assert set(loaded.split()[1:]) - ALLOWED[command] == set()
