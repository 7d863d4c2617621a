"""What a test of a promise counts, for the table of docs/reliability.md (``infra/reliability.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Tally:
    """How often a fault was tried and the promise held, where a test tries more than one."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}
        self.notes: list[str] = []

    def tried(self, unit: str, count: int = 1) -> None:
        self.counts.setdefault(unit, [0, 0])[0] += count

    def held(self, unit: str, count: int = 1) -> None:
        self.counts.setdefault(unit, [0, 0])[1] += count

    def note(self, text: str) -> None:
        """What the numbers alone do not say; it stands beside them in the table."""
        self.notes.append(text)

    @contextmanager
    def __call__(self, unit: str, count: int = 1) -> Iterator[None]:
        """Tried on entry, held if the block ends without an exception."""
        self.tried(unit, count)
        yield
        self.held(unit, count)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reports say whether a test belongs to the longer run: their keywords do not, as they hold folders' names too."""
    for item in items:
        if item.get_closest_marker("faults") or item.get_closest_marker("slow"):
            item.user_properties.append(("long", True))
