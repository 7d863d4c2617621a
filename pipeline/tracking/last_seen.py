"""The versions that a sqlite registry told last, for as long as nobody writes to it.

Importing MLflow and opening its database take two seconds, and a run that finds nothing to do would ask for nothing
else. Unchanged means the same file by what the file system knows, and the same change counter: sqlite adds one to it
with each transaction (https://www.sqlite.org/fileformat2.html, 1.3.7), so that one within a tick of a coarse clock is
noticed too. A server is always asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from pipeline.core import checked
from pipeline.core.file_state import FileState
from pipeline.core.files import Document
from pipeline.tracking.registry import Version
from pipeline.tracking.session import SQLITE

FILE = ".graftline/cache/registry.checked"

_HEADER = 28
_MAGIC, _COUNTER = b"SQLite format 3\0", slice(24, 28)
_ROLLBACK = b"\1\1"
"""Bytes 18 and 19 of a database that is written in place; with a log beside it (WAL) the counter may stand still."""


class _Seen(Document):
    uri: str
    model: str
    database: list[int]
    versions: list[Version]


class LastSeen:
    """What the registry at ``uri``, resolved, told of ``model`` to this workspace."""

    def __init__(self, workspace: Path, uri: str, model: str) -> None:
        self._file, self._uri, self._model = workspace / FILE, uri, model

    def versions(self, ask: Callable[[], list[Version]]) -> list[Version]:
        """As ``ask`` returns them, which is called where it might return others than the last time."""
        database = _state(self._uri)  # before asking: what is written meanwhile is then not taken for known
        if database is None:
            return ask()
        seen = self._load()
        if seen and (self._uri, self._model, database) == (seen.uri, seen.model, seen.database):
            return seen.versions
        versions = ask()
        told = _Seen(uri=self._uri, model=self._model, database=database, versions=versions)
        with contextlib.suppress(OSError):  # a disk that is full costs the next run two seconds
            checked.write(self._file, told.model_dump_json().encode())
        return versions

    def _load(self) -> _Seen | None:
        try:
            kept = checked.read(self._file)
            return None if kept is None else _Seen.model_validate_json(kept)
        except (OSError, ValidationError):
            return None


def _state(uri: str) -> list[int] | None:
    """None where the file alone does not tell whether the database is another: no sqlite, or one that is being written
    to, was left in the middle of that, or writes to a log first."""
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or any(path.with_name(path.name + more).exists() for more in ("-journal", "-wal")):
        return None
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return None
    state = FileState.of(path)
    if state is None or header[:16] != _MAGIC or header[18:20] != _ROLLBACK:
        return None
    return [*state, int.from_bytes(header[_COUNTER], "big")]
