"""When a disk is full: recognising it in whatever a library raises, and saying it in words."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import ServiceError

FULL = (errno.ENOSPC, errno.EDQUOT)

IN_WORDS = (*(os.strerror(code).lower() for code in FULL), "database or disk is full")
"""As libraries that keep no error number put it: the system's words, and SQLite's."""

LITTLE_BYTES = 2**20
"""Some writers (torch's, safetensors') only say that writing failed; with less free than this it is clear why."""

WRITE_FAILED = ("write", "writing", "written")


def full(error: BaseException, workspace: Path, *, doing: str, needed_bytes: int | None = None) -> ServiceError | None:
    """The error to raise instead of ``error``, if a full disk was behind it; else None.

    ``doing`` names the work, and ``needed_bytes`` is what its results took the last time.
    """
    places = {place: shutil.disk_usage(place).free for place in (workspace, Path(tempfile.gettempdir()))}
    if not any(_says_full(one, min(places.values())) for one in _chain(error)):
        return None
    free = ", ".join(f"{megabytes(count)} are free in {place}" for place, count in places.items())
    needed = f"; it took {megabytes(needed_bytes)} the last time" if needed_bytes else ""
    return ServiceError(
        f"There is no room left on the disk for {doing}{needed}. {free}.\n"
        "  Make room (graftline keeps what it can compute again in .graftline/cache and .graftline/scratch), then run "
        "again:\n  what was finished is kept, and nothing half-written stands under a final name."
    )


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _says_full(error: BaseException, free_bytes: int) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    said = str(error).lower()
    if any(words in said for words in IN_WORDS):
        return True
    return free_bytes < LITTLE_BYTES and any(word in said for word in WRITE_FAILED)
