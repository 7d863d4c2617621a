"""Work that runs ahead of whoever reads it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.core.ahead import PER_THREAD, mapped_ahead


def test_results_come_in_order() -> None:
    assert [number**2 for number in range(100)] == list(mapped_ahead(lambda number: number**2, range(100), 3))


def test_it_runs_ahead_but_not_far() -> None:
    """Before the first result is taken some items are drawn, and never more than a few beyond what was taken."""
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = mapped_ahead(lambda number: number, items(), 2)
    for taken in range(50):
        assert next(results) == taken
        assert len(drawn) <= taken + 2 * PER_THREAD


def test_several_items_are_worked_on_at_once() -> None:
    """Each waits for the other: one thread alone would never end."""
    both = threading.Barrier(2, timeout=30)
    assert sorted(mapped_ahead(lambda number: both.wait() * 0 + number, range(2), 2)) == [0, 1]


def test_an_error_comes_where_its_result_would_have() -> None:
    results = mapped_ahead(lambda number: 1 // (3 - number), range(9), 2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_of_the_items_is_the_callers() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(mapped_ahead(lambda number: number, items(), 2))


def test_nothing_gives_nothing() -> None:
    assert [] == list(mapped_ahead(lambda number: number, [], 2))
