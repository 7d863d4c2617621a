"""How a process of several ends; here, because each process has to import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def nothing(threads: int) -> None:
    """Ends well."""


def breaks(threads: int) -> None:
    """Ends badly, as a defect does."""
    raise RuntimeError("a defect")


def interrupts(threads: int) -> None:
    """Ctrl-C for the process that started this one, which then has to end it."""
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)


def raises(error: Exception, tries: Path) -> None:
    """Each try is a line in ``tries``."""
    with tries.open("a", encoding="utf-8") as file:
        file.write("tried\n")
    raise error
