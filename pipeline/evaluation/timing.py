"""How long one call takes, measured so that a busy moment hits everybody measured alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

WARM_UPS = 5
MIN_RUNS = 10


def take_turns(
    calls: dict[str, Callable[[], object]], *, runs: int = 50, budget_s: float = 3.0
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each call of each function, [runs]; the functions take turns.

    Stops after ``runs`` turns or ``budget_s`` seconds, but not before ``MIN_RUNS`` turns. Warm-up calls do not count.
    """
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for turn in range(runs):
        if turn >= MIN_RUNS and time.perf_counter() - started > budget_s:
            break
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - before))
    return {name: np.array(taken) for name, taken in times.items()}
