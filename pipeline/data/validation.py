"""What the validate stage reports: each check in plain words, what was set aside, leaks, and the data in figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.core.files import Document
from pipeline.data.profile import Change, DataProfile

State = Literal["passed", "not applicable", "warning", "failed"]


class Check(Document):
    """One expectation and what became of it."""

    suite: str
    name: str
    """Short and stable: ``readable``, ``leak_copy``."""
    says: str
    """The expectation in plain words, with the limits in force."""
    severity: Literal["critical", "warning"]
    passed: bool
    """Nothing was found that is not as expected; true also where there was nothing to look at."""
    applicable: bool = True
    """There was something to look at: a check of the source's classes has nothing without a source."""
    observed: str
    unexpected_count: int = 0
    """Rows that are not as expected. A check may pass with some, where its suite allows a share of them."""
    images: list[str] = []
    """Names of such images, the first hundred; empty for a check of classes."""
    classes: list[str] = []
    """Such classes, for a check of classes."""
    reasons: list[str] = []
    """What was found, row by row with ``images`` or ``classes``."""
    remedy: str | None = None

    @property
    def state(self) -> State:
        if not self.passed:
            return "failed" if self.severity == "critical" else "warning"
        return "passed" if self.applicable else "not applicable"

    @property
    def named(self) -> list[str]:
        """``photo3.jpg: not an image``, for each row that the check names."""
        names = self.images or [f"class '{name}'" for name in self.classes]
        return [f"{name}: {reason}" for name, reason in zip(names, self.reasons, strict=True)]


def tally(states: Sequence[State]) -> str:
    """``21 checks passed, 3 not applicable, 1 failed, 2 warnings``; of the last three only what there is."""
    count = {state: states.count(state) for state in ("passed", "not applicable", "failed", "warning")}
    told = [f"{count['passed']} {'check' if count['passed'] == 1 else 'checks'} passed"]
    told += [f"{count[state]} {state}" for state in ("not applicable", "failed") if count[state]]
    told += [f"{count['warning']} {'warning' if count['warning'] == 1 else 'warnings'}"]
    return ", ".join(told)


class Quarantined(Document):
    """An image that was left out of the manifests."""

    domain: str
    name: str
    reason: str


LeakKind = Literal["copy", "group", "lookalike"]


class Place(Document):
    """Where an image lies."""

    domain: str
    split: str
    name: str

    def __str__(self) -> str:
        return f"{self.domain} {self.split} '{self.name}'"


class Leak(Document):
    """Two images that ought to be in one split and are not."""

    kind: LeakKind
    left: Place
    right: Place


class ValidationReport(Document):
    """Equal data and params give an equal report: there is no clock in it."""

    success: bool
    """No critical check failed."""
    checks: list[Check]
    quarantined: list[Quarantined]
    leaks: list[Leak]
    """Every one: a gate judges by them."""
    leak_count: int
    profile: DataProfile
    """Of the usable images."""
    changes: list[Change]
    """Against the last run's profile; empty without one."""

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.passed and check.severity == "critical"]

    @property
    def warnings(self) -> list[Check]:
        return [check for check in self.checks if not check.passed and check.severity == "warning"]
