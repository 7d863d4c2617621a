"""A disk that fills up in the middle of a stage: said in words, nothing half-written, and done once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration_tools import graftline, outputs_of

from pipeline import params
from pipeline.graph.table import BY_NAME

SIZE_MB = 64
LEFT_KB = 100
"""Less than any of these stages writes."""

STAGES = (
    "train",
    *(pytest.param(name, marks=pytest.mark.faults) for name in ("ingest", "features", "export", "package")),
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a small file system here ({mounted.stderr.strip()})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path, left_kb: int = LEFT_KB) -> Path:
    """A file that leaves so much."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - left_kb * 1024)
    return filler


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_finds_no_room(finished: Path, small_disk: Path, stage: str) -> None:
    """One clear message with what is free; what stood before stands, and with room the stage ends as it always does."""
    workspace = Path(shutil.copytree(finished, small_disk / "w", symlinks=True))
    shutil.rmtree(workspace / ".graftline" / "cache", ignore_errors=True)
    before = outputs_of(workspace, [BY_NAME[stage]])
    filler = fill(small_disk)
    failed = graftline("stage", stage, workspace=workspace)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert f"There is no room left on the disk for stage '{stage}'; its results took " in failed.stderr
    assert f"MB are free in {workspace}" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert before == outputs_of(workspace, [BY_NAME[stage]])
    filler.unlink()
    mended = graftline("stage", stage, workspace=workspace)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert before == outputs_of(workspace, [BY_NAME[stage]])
    assert [] == [path for path in workspace.rglob(".*.partial") if ".graftline/cache" not in path.as_posix()]


def test_a_run_that_finds_no_room_keeps_the_champion(finished: Path, small_disk: Path) -> None:
    """The hand-off and DVC's lock are as they were; the same command with room ends well."""
    workspace = Path(shutil.copytree(finished, small_disk / "w", symlinks=True))
    before = [(workspace / name).read_bytes() for name in ("dvc.lock", "handoff/current/model.onnx")]
    filler = fill(small_disk)
    command = ("run", "--inline", "--set", "ingest.source.images_per_class=40")
    failed = graftline(*command, workspace=workspace)
    assert failed.returncode != 0
    said = (failed.stdout + failed.stderr).lower()
    assert "no room left" in said or "no space left" in said
    assert "our fault" not in said
    assert before == [(workspace / name).read_bytes() for name in ("dvc.lock", "handoff/current/model.onnx")]
    filler.unlink()
    done = graftline(*command, workspace=workspace)
    assert done.returncode == 0, done.stdout + done.stderr


TEMPORARY_LEFT_KB = 12
"""Enough for the file by which Python tries the folder, less than any work writes there."""


@pytest.mark.faults
def test_a_stage_whose_temporary_folder_is_full(
    copy_of: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TMPDIR is elsewhere, and small: the message says how much is free there; the results stand, and with room the
    stage ends well and leaves nothing of its own behind."""
    params.assign(copy_of, ["export.int8=true"])
    before = outputs_of(copy_of, [BY_NAME["export"]])
    monkeypatch.setenv("TMPDIR", str(small_disk))
    filler = fill(small_disk, TEMPORARY_LEFT_KB)
    failed = graftline("stage", "export", workspace=copy_of)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "There is no room left on the disk for stage 'export'" in failed.stderr
    assert f" MB are free in {small_disk}" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert before == outputs_of(copy_of, [BY_NAME["export"]])
    filler.unlink()
    mended = graftline("stage", "export", workspace=copy_of)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert [] == list(small_disk.glob("graftline-*"))
