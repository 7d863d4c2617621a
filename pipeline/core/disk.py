"""When a disk is full: recognising it in whatever a library raises, and saying it in words."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import ServiceError, beneath

FULL = (errno.ENOSPC, errno.EDQUOT)

IN_WORDS = (*(os.strerror(code).lower() for code in FULL), "database or disk is full")
"""As libraries that keep no error number put it: the system's words, and SQLite's."""

CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
"""NumPy's words for a write that ended early."""


def full(error: BaseException, workspace: Path, *, doing: str, results_bytes: int | None = None) -> ServiceError | None:
    """The error to raise instead of ``error``, if a full disk was behind it; else None.

    ``doing`` names the work, and ``results_bytes`` is what its results took the last time.
    """
    behind = next((one for one in beneath(error) if says_full(one)), None)
    if behind is None:
        return None
    said = next(filter(_are_words_for_it, str(behind).splitlines()), str(behind))
    free = ", ".join(f"{_megabytes(count)} are free in {place}" for place, count in _free_bytes(behind, workspace))
    last = f"; its results took {_megabytes(results_bytes)} the last time" if results_bytes else ""
    return ServiceError(
        f"There is no room left on the disk for {doing}{last}. {free} ({said}).\n"
        "  Make room (what is in .graftline/cache can be computed again), then run again: finished stages are kept,\n"
        "  and nothing half-written stands under a final name."
    )


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def says_full(error: BaseException) -> bool:
    """Does this error, by itself, tell of a full disk: by its number, or in the words of a library that kept none?"""
    return (isinstance(error, OSError) and error.errno in FULL) or _are_words_for_it(str(error))


def _are_words_for_it(text: str) -> bool:
    return any(words in text.lower() for words in IN_WORDS) or bool(CUT_SHORT.search(text))


def _free_bytes(error: BaseException, workspace: Path) -> Iterator[tuple[Path, int]]:
    """Where it may have been, and how much is free there; a place that cannot even be asked is left out."""
    places = [workspace]
    if isinstance(error, OSError) and isinstance(error.filename, str):
        places.insert(0, Path(error.filename).parent)
    with contextlib.suppress(OSError):  # on a full disk Python finds no usable temporary folder
        places.append(Path(tempfile.gettempdir()))
    for place in dict.fromkeys(places):
        with contextlib.suppress(OSError):
            yield place, shutil.disk_usage(place).free
