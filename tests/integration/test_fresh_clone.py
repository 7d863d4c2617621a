"""A fresh clone, a home of its own, a path with a space: the README's first command from nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)
def test_make_run_in_a_fresh_clone(tmp_path):
    """It sets everything up, runs the main job, and ends by saying where things are and what to type next."""
    if not (ROOT / ".git").exists() or shutil.which("make") is None:
        pytest.skip("needs git history and make")
    clone, home = tmp_path / "a fresh clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, "HOME": str(home), "PATH": "/usr/bin:/bin"}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        ["make", "run", f"PYTHON={getattr(sys, '_base_executable', sys.executable)}"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "champion digits v1 · handoff/v1" in done.stdout
    assert "  report  report/index.html" in done.stdout
    assert "graftline predict champion" in done.stdout
    assert (clone / "handoff/current/model.onnx").is_file()
