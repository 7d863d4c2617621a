"""Processes that are to end."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import psutil


def end_within(seconds: float, family: Sequence[psutil.Process]) -> None:
    """Wait for processes that were asked to end; those that have not after so long are killed."""
    alive = psutil.wait_procs(family, timeout=seconds)[1]
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended in the meantime
            member.kill()
    psutil.wait_procs(alive, timeout=seconds)
