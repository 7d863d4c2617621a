"""The time that trying strategies may take."""

from __future__ import annotations

import time


class Budget:
    """Wall-clock minutes from now on. What runs is never cut short; only nothing new is begun once they are over.

    A choice that the budget cut depends on the machine's speed; the record then says which candidates were not tried.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self._ends = time.monotonic() + 60 * minutes

    @property
    def is_spent(self) -> bool:
        return time.monotonic() >= self._ends
