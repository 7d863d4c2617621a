"""What a process of several does to the one that started it; here, because each process has to import it."""

from __future__ import annotations

import os
import signal
import time


def nothing(threads: int) -> None:
    """Ends well."""


def breaks(threads: int) -> None:
    """Ends badly, as a defect does."""
    raise RuntimeError("a defect")


def interrupts(threads: int) -> None:
    """Ctrl-C for the process that started this one, which then has to end it."""
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)
