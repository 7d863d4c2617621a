"""A whole workspace on the smallest digits that still learn, run once and copied for each test that changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from integration_tools import graftline, small_workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after one ``graftline run --inline``; its path holds a space. Do not change it."""
    folder = small_workspace(tmp_path_factory.mktemp("a space") / "finished")
    done = graftline("run", "--inline", workspace=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def copy_of(finished: Path, tmp_path: Path) -> Path:
    """That workspace, to do with as the test likes."""
    return Path(shutil.copytree(finished, tmp_path / "copy", symlinks=True))
