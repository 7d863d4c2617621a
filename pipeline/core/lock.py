"""One run at a time in a workspace, and a sentence about who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core import files
from pipeline.core.errors import BusyError

LOCK = ".graftline/run.lock"
HOLDER = ".graftline/run.holder.json"
SAYS_ITS_NAME_WITHIN_S = 1.0


@contextlib.contextmanager
def workspace_lock(workspace: Path, *, wait_s: float = 3600, emit: Callable[[str], None] = print) -> Iterator[None]:
    """Hold the workspace. Another run waits, saying for whom; the operating system frees a dead process's lock.

    Raises:
        BusyError: still held after ``wait_s``.
    """
    lock = FileLock(workspace / LOCK)
    (workspace / LOCK).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        emit(f"Waiting: {holder(workspace)}.")
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise BusyError(f"{holder(workspace)}; gave up after {wait_s:.0f} s.") from None
    try:
        files.write_text(workspace / HOLDER, json.dumps({"pid": os.getpid(), "since": time.strftime("%F %T")}))
        yield
    finally:
        (workspace / HOLDER).unlink(missing_ok=True)  # or who waits next would be told the name of one who is done
        lock.release()


def is_held(workspace: Path) -> bool:
    """Is a run at work in the workspace? Takes nobody's turn: what is free is left free, and nothing is made."""
    if not (workspace / LOCK).is_file():
        return False
    try:
        with FileLock(workspace / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # not ours to open, so who may run here cannot be asked
        return False


def holder(workspace: Path) -> str:
    """Who holds the workspace: ``another run (pid 7, since 2026-03-01 03:00:12) holds shop``."""
    deadline = time.monotonic() + SAYS_ITS_NAME_WITHIN_S
    while not (workspace / HOLDER).is_file() and time.monotonic() < deadline:
        time.sleep(0.02)  # it has the lock and is about to say its name, or it is done and has taken it back
    try:
        found = json.loads((workspace / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"another run holds {workspace}"
    return f"another run (pid {found['pid']}, since {found['since']}) holds {workspace}"
