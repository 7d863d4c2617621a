"""What a killed process has left under temporary names goes; what a living one is writing stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core import files
from pipeline.features.cache import FeatureCache, write_segment
from pipeline.release import leftovers

DIES = """
import os, signal, sys
from pathlib import Path
from pipeline.core.files import replacing
with replacing(Path(sys.argv[1])) as fresh:
    fresh.mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""

PLACES = [
    "inspections.checked",
    "features/0123abcd/segment-4567",
    "engines/89ef-224.onnx",
]


@pytest.mark.parametrize("place", PLACES)
def test_the_cache_is_swept_of_what_dead_processes_left(tmp_path: Path, place: str) -> None:
    """Of a process that was killed while it wrote; another's, which lives, is left to it, and what is whole stays."""
    final = tmp_path / ".graftline/cache" / place
    write_segment(final.parent, ["a"], np.ones((1, 2), np.float32))
    assert subprocess.run([sys.executable, "-c", DIES, str(final)], check=False).returncode < 0
    (left,) = final.parent.glob(".*.partial")
    desk = SimpleNamespace(workspace=tmp_path, handoff=tmp_path / "handoff")
    with files.replacing(final.with_name("alive")) as fresh:
        fresh.write_text("at work")
        assert ["removed 1 temporary folder that a killed run has left"] == leftovers._sweep(desk)
        assert not left.exists()
        assert [] == leftovers._sweep(desk)
    assert "at work" == final.with_name("alive").read_text()
    assert "a" in FeatureCache(final.parent)
