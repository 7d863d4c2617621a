"""A full disk is recognised in whatever a library makes of it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import disk
from pipeline.core.errors import ServiceError

FULL_DEVICE = Path("/dev/full")
"""Linux's: every write fails as on a full disk."""


def by_python() -> None:
    FULL_DEVICE.write_bytes(b"0" * 100_000)


def by_numpy() -> None:
    with FULL_DEVICE.open("wb") as file:
        np.save(file, np.zeros(100_000))


def by_torch() -> None:
    """As the engine writes its checkpoints."""
    import torch

    with FULL_DEVICE.open("wb") as file:
        torch.save({"weight": torch.zeros(100_000)}, file)


def by_arrow() -> None:
    """Through a file that is open: given a name it would remove what it could not write, and that is the device."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with FULL_DEVICE.open("wb") as file:
        pq.write_table(pa.table({"column": list(range(100_000))}), file)


def by_sqlite() -> None:
    """A database that may not grow says the same as one that cannot."""
    with sqlite3.connect(":memory:") as database:
        database.execute("pragma max_page_count = 2")
        database.execute("create table rows (value text)")
        database.execute("insert into rows values (?)", ["0" * 100_000])


def caused() -> None:
    try:
        by_python()
    except OSError as error:
        raise ValueError("could not be saved") from error


def on_the_way() -> None:
    """A library that meets the full disk and fails over what it does about it."""
    try:
        by_python()
    except OSError:
        {}["the buffer"]


def cut_short() -> None:
    """What NumPy says where the last part of an array no longer fits."""
    raise OSError("262144 requested and 25568 written")


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="no /dev/full")
@pytest.mark.parametrize("write", [by_python, by_numpy, by_torch, by_arrow, by_sqlite, caused, on_the_way, cut_short])
def test_it_is_known_whoever_wrote(write: Callable[[], None], tmp_path: Path) -> None:
    """The message says for what, what the results took before, what is free where, and what the library said."""
    with pytest.raises(Exception) as raised:
        write()
    found = disk.full(raised.value, tmp_path, doing="stage 'train'", results_bytes=2_500_000)
    assert isinstance(found, ServiceError)
    text = str(found)
    expected = "There is no room left on the disk for stage 'train'; its results took 2.5 MB the last time. "
    assert text.startswith(expected)
    assert f"MB are free in {tmp_path}" in text
    assert ".graftline/cache" in text


def test_no_temporary_folder_is_no_further_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python finds none on a disk that is full to the last byte."""

    def none_usable() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    found = disk.full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), tmp_path / "gone", doing="this command")
    assert "for this command" in str(found)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EACCES, "Permission denied"), KeyError("label"), MemoryError(), TypeError("write() needs bytes")],
    ids=repr,
)
def test_other_errors_are_none_of_its_business(error: Exception, tmp_path: Path) -> None:
    assert disk.full(error, tmp_path, doing="stage 'train'") is None


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Bytes that are free in each folder; one that is not in the table cannot be asked."""
    table: dict[Path, int] = {}

    def usage(place: Path) -> object:
        if place not in table:
            raise FileNotFoundError(errno.ENOENT, "gone", str(place))
        return type("Usage", (), {"free": table[place]})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return table


def test_the_message(tmp_path: Path, free: dict[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free where the file was to lie, in the workspace and where temporary files go, each once."""
    elsewhere, temporary = tmp_path / "elsewhere", tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    free.update({elsewhere: 12_345, tmp_path: 250_000_000_000, temporary: 0})
    error = OSError(errno.ENOSPC, "No space left on device", str(elsewhere / "model.onnx"))
    assert str(disk.full(error, tmp_path, doing="stage 'export'")) == (
        f"There is no room left on the disk for stage 'export'. 0.0 MB are free in {elsewhere}, "
        f"250,000.0 MB are free in {tmp_path}, 0.0 MB are free in {temporary} ({error}).\n"
        "  Make room (what is in .graftline/cache can be computed again), then run again: finished stages are kept,\n"
        "  and nothing half-written stands under a final name."
    )


def test_of_many_lines_the_telling_one_is_shown(tmp_path: Path, free: dict[Path, int]) -> None:
    """SQLite's are followed by the statement, and others by a stack."""
    free[tmp_path] = 0
    error = RuntimeError("not written\n(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO runs …]")
    assert "((sqlite3.OperationalError) database or disk is full)" in str(disk.full(error, tmp_path, doing="a run"))


def test_a_number_tells_where_the_words_do_not(tmp_path: Path, free: dict[Path, int]) -> None:
    """In another language, or of a quota: then all that was said is shown."""
    free[tmp_path] = 0
    error = OSError(errno.EDQUOT, "Plattenkontingent überschritten")
    assert f"({error})" in str(disk.full(error, tmp_path, doing="a run"))


def test_sizes(tmp_path: Path) -> None:
    """Of a file, of everything in a folder, of nothing."""
    (tmp_path / "folder/below").mkdir(parents=True)
    (tmp_path / "folder/a").write_bytes(bytes(10))
    (tmp_path / "folder/below/b").write_bytes(bytes(5))
    assert [10, 15, 0] == [disk.size_of(tmp_path / name) for name in ("folder/a", "folder", "nothing")]
