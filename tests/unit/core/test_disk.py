"""A full disk is recognised in whatever a library makes of it."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.core import disk

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that every file system has left; change the one element."""
    left = [50_000_000]
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: Usage(10**9, 10**9 - left[0], left[0]))
    return left


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("Error: No space left on device (os error 28)"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
        caused(ValueError("could not save"), OSError(errno.ENOSPC, "no")),
    ],
    ids=str,
)
def test_it_is_known_by_number_words_or_cause(error: Exception, free: list[int], tmp_path: Path) -> None:
    """The message says for what, what is free where, what it took before, and what to do."""
    found = disk.full(error, tmp_path, doing="stage 'train'", needed_bytes=2_500_000)
    assert found is not None
    text = str(found)
    assert text.startswith("There is no room left on the disk for stage 'train'; it took 2.5 MB the last time. ")
    assert f"50.0 MB are free in {tmp_path}" in text
    assert ".graftline/cache" in text


def test_a_failed_write_counts_where_nothing_is_left(free: list[int], tmp_path: Path) -> None:
    """torch only says that writing failed."""
    error = RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0 while writing")
    assert disk.full(error, tmp_path, doing="stage 'train'") is None
    free[0] = 1000
    assert "took" not in str(disk.full(error, tmp_path, doing="stage 'train'"))
    assert disk.full(RuntimeError("singular matrix"), tmp_path, doing="stage 'train'") is None


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), KeyError("label"), MemoryError()])
def test_other_errors_are_none_of_its_business(error: Exception, free: list[int], tmp_path: Path) -> None:
    assert disk.full(error, tmp_path, doing="stage 'train'") is None
