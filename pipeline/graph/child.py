"""A stage's process and the run that started it, which prints what the stage says and must not leave it behind."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

PARENT_VARIABLE = "GRAFTLINE_PARENT"
"""Set for a stage's process to the pid of the run that started it: it keeps quiet, and ends when that run is dead."""


def is_child() -> bool:
    """Was this process started by a run, which prints what it says?"""
    return PARENT_VARIABLE in os.environ


def end_with_parent() -> None:
    """In a stage's process: end as soon as the run that started it is dead, so that no orphan holds DVC's lock."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while Path(f"/proc/{parent}").exists() if Path("/proc").exists() else _is_alive(parent):
        time.sleep(0.5)
    os._exit(1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
