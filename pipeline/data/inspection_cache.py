"""Inspections of files, kept from run to run: a file that has not changed is not read again.

Unchanged means the same size, inode, time of modification and time of change of the inode, which programs cannot set
back where the file system keeps one. A file that changed within the last moments may change again without its times
telling, on file systems with coarse clocks; it is looked at anew the next time (git calls such entries racily clean).
What is read later is compared with its digest all the same.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core import checked, file_state
from pipeline.core.file_state import FileState
from pipeline.data.inspection import Inspection
from pipeline.data.recipes import recipe

COLUMNS = {
    "path": pa.string(),
    "size": pa.int64(),
    "inode": pa.uint64(),
    "mtime_ns": pa.int64(),
    "ctime_ns": pa.int64(),
    "id": pa.string(),
    "bytes": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "mode": pa.string(),
    "format": pa.string(),
    "phash": pa.string(),
    "brightness": pa.float64(),
    "sharpness": pa.float64(),
    "error": pa.string(),
}
"""The path, then the fields of :class:`~pipeline.core.file_state.FileState` and of
:class:`~pipeline.data.inspection.Inspection`."""


CODE = (
    "pipeline.data.exposure",
    "pipeline.data.images",
    "pipeline.data.inspection",
    "pipeline.data.perceptual_hash",
    "pipeline.data.unreadable",
)
"""What lies between a file and its inspection, beside libraries."""


def made_by() -> str:
    """Digest of everything that an inspection depends on beside the file: another decoder may see another picture."""
    return recipe(CODE, ("numpy",))


class InspectionCache:
    """Inspections by path, in one file in ``folder``; None keeps nothing.

    What a run has used is saved at its end and the rest forgotten, so that the file is never larger than the data set.
    Two runs at once overwrite each other's, and lose nothing but time.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = folder and folder / f"inspections-{made_by()[:16]}.checked"
        # As columns: tuples for a million files would be another million objects for the garbage collector to walk.
        self._before: dict[str, list[Any]] = _loaded(self._file)
        self._row_of = {path: row for row, path in enumerate(self._before["path"])}
        self._found: set[int] = set()
        self._new: dict[str, tuple[FileState, Inspection]] = {}

    @property
    def known_before(self) -> int:
        """How many files the last run wrote down."""
        return len(self._row_of)

    def find(self, path: Path) -> Inspection | None:
        """What was seen in the file, if it has not changed since."""
        key = os.path.abspath(path)
        row = self._row_of.get(key)
        if row is None or FileState.of(key) != self._values(row, FileState._fields):
            return None
        self._found.add(row)
        return Inspection(*self._values(row, Inspection._fields))

    def _values(self, row: int, names: Sequence[str]) -> tuple[Any, ...]:
        return tuple([self._before[name][row] for name in names])

    def look(
        self, paths: Sequence[Path], inspected: Callable[[Sequence[Path]], Iterable[Inspection]]
    ) -> list[Inspection]:
        """What is ``inspected`` in the files, in order; it is remembered unless it may not last.

        A file with an error is looked at again the next time: it may only be out of reach for a moment.
        """
        keys = [os.path.abspath(path) for path in paths]
        settled = [file_state.settled(key) for key in keys]  # asked before a read that may last until it seems settled
        found = list(inspected(paths))
        for key, state, seen in zip(keys, settled, found, strict=True):
            if state is not None and seen.error is None:
                self._new[key] = (state, seen)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Whoever was interrupted has not seen what else there is: then nothing is forgotten."""
        self._save(range(self.known_before) if kind else sorted(self._found))

    def _save(self, kept: Sequence[int]) -> None:
        """Write down those rows and what is new, in the place of what other code or libraries have seen.

        Where that cannot be done a line says so, and the next run reads the files again.
        """
        if self._file is None or (not self._new and len(kept) == self.known_before):
            return
        rows = [row for row in kept if self._before["path"][row] not in self._new]
        new = list(zip(*((path, *state, *seen) for path, (state, seen) in self._new.items()), strict=True))
        columns = {name: [self._before[name][row] for row in rows] for name in COLUMNS}
        for column, more in zip(columns.values(), new, strict=False):
            column += more
        try:
            table = pa.table(columns, schema=pa.schema(list(COLUMNS.items())))
            written = io.BytesIO()
            pq.write_table(table, written)
            checked.write(self._file, written.getvalue())  # Parquet's own checksums leave out its footer
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:  # ValueError: a path not UTF-8
            print(f"  what was seen could not be kept, and is looked at anew the next time: {error}", flush=True)
            return
        for old in self._file.parent.glob("inspections-*"):
            if old != self._file:
                old.unlink(missing_ok=True)


def _loaded(file: Path | None) -> dict[str, list[Any]]:
    """The columns that were written; empty ones where the file is not there or no longer whole."""
    nothing: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    try:
        written = None if file is None else checked.read(file)
        columns = nothing if written is None else pq.read_table(pa.BufferReader(written)).to_pydict()
        return {name: columns[name] for name in COLUMNS}
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return nothing
