"""The time that trying strategies may take."""

from __future__ import annotations


class Budget:
    """Minutes of fitting. Once they are spent nothing new is begun, and a candidate that is still training stops at the
    end of its epoch; the baseline, and the winner's last fit to everything, take the time they need.

    Each attempt is charged with the seconds it took, also where a killed run had finished it: a resumed run then tries
    what an undisturbed one would have tried. A choice that the budget cut still depends on the machine's speed, and the
    record says which candidates were not tried.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self._spent_s = 0.0

    def charge(self, seconds: float) -> None:
        self._spent_s += seconds

    @property
    def left_s(self) -> float:
        return 60 * self.minutes - self._spent_s

    @property
    def is_spent(self) -> bool:
        return self.left_s <= 0
