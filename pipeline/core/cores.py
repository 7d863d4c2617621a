"""How many processor cores there are to use: of the machine, or of the container that we are in."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def assigned() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable() -> int:
    """As many of them as the container's share of time (Docker's ``--cpus``, a Kubernetes limit; cgroup v2) keeps busy.

    A share may differ between two machines that are alike otherwise: not for what decides the order of sums.
    """
    return min(assigned(), _share() or assigned())


def _share() -> int | None:
    """The container's, in whole cores, rounded up; None where there is no limit, or no container."""
    try:
        time_us, period_us = QUOTA.read_text().split()
    except (OSError, ValueError):
        return None
    return math.ceil(int(time_us) / int(period_us)) if time_us.isdecimal() and period_us.isdecimal() else None
