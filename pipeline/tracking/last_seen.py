"""The versions that a sqlite registry told last, for as long as nobody writes to it.

Importing MLflow and opening its database take two seconds, and a run that finds nothing to do would ask for nothing
else. What the file system says of the file decides; the file itself is not opened, for closing it would take away the
locks that sqlite holds on it in this process (https://www.sqlite.org/howtocorrupt.html, 2.2). A server is always asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

import pipeline
from pipeline.core import checked
from pipeline.core.file_state import FileState, settled
from pipeline.core.files import Document
from pipeline.tracking.registry import Version
from pipeline.tracking.session import SQLITE

FILE = ".graftline/cache/registry.checked"


class _Seen(Document):
    asked: tuple[str, str, str, FileState]
    """Version of Graftline (another may read other things in the registry), URI, model, state of the database."""
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
        asked = (pipeline.__version__, self._uri, self._model, database)
        if (seen := self._load()) and seen.asked == asked:
            return seen.versions
        told = _Seen(asked=asked, versions=ask())
        with contextlib.suppress(OSError):  # a disk that is full costs the next run two seconds
            checked.write(self._file, told.model_dump_json().encode())
        return told.versions

    def _load(self) -> _Seen | None:
        try:
            kept = checked.read(self._file)
            return None if kept is None else _Seen.model_validate_json(kept)
        except (OSError, ValidationError):
            return None


def _state(uri: str) -> FileState | None:
    """None where the file does not tell whether the database is another: no sqlite, or one that has been written to
    just now, is being written to, was left in the middle of that, or writes to a log first."""
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or any(path.with_name(path.name + more).exists() for more in ("-journal", "-wal")):
        return None
    return settled(path)
