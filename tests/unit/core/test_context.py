"""Where a stage builds an output."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.core.context import Context


def test_a_folder_of_the_scratch_is_empty(tmp_path: Path) -> None:
    """Also where a killed run has left something; and where the scratch itself is not there yet."""
    context = Context(tmp_path, seed=0, scratch=tmp_path / "not" / "there")
    for _ in range(2):
        folder = context.empty_folder("bundle")
        assert folder == tmp_path / "not/there/bundle"
        assert list(folder.iterdir()) == []
        (folder / "half.onnx").touch()


def test_without_a_scratch_it_is_a_temporary_one(tmp_path: Path) -> None:
    """Named after the output, so that what a kill leaves behind can be told."""
    folder = Context(tmp_path, seed=0).empty_folder("bundle")
    try:
        assert folder.name.startswith("graftline-bundle-")
        assert list(folder.iterdir()) == []
        assert tmp_path not in folder.parents
    finally:
        shutil.rmtree(folder)
