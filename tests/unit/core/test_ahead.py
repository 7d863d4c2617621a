"""Work that runs ahead of whoever reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.core import ahead, cores
from pipeline.core.ahead import PER_THREAD, mapped_ahead


def test_results_come_in_order() -> None:
    assert [number**2 for number in range(100)] == list(mapped_ahead(lambda number: number**2, range(100), 3))


@pytest.mark.parametrize("per_thread", [1, PER_THREAD])
def test_it_runs_ahead_but_not_far(per_thread: int) -> None:
    """Before the first result is taken some items are drawn, and never more than a few beyond what was taken."""
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = mapped_ahead(lambda number: number, items(), 2, per_thread=per_thread)
    for taken in range(50):
        assert next(results) == taken
        assert len(drawn) == taken + 1 + 2 * per_thread


def test_the_next_is_at_work_while_the_caller_is_busy_with_one() -> None:
    """Also where only one is ever in flight: else caller and thread would wait for each other in turn."""
    begun = threading.Event()
    results = mapped_ahead(lambda number: begun.set() if number else None, range(3), 1, per_thread=1)
    next(results)
    assert begun.wait(timeout=10)


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


def test_no_more_threads_than_were_asked_for() -> None:
    """However much is waiting."""

    def worker(_: int) -> int:
        time.sleep(0.01)
        return threading.get_ident()

    assert 1 == len(set(mapped_ahead(worker, range(8), 1)))
    assert 2 >= len(set(mapped_ahead(worker, range(16), 2)))


@pytest.mark.parametrize("expected", [1, 3])
def test_without_a_number_there_is_a_thread_per_core(monkeypatch: pytest.MonkeyPatch, expected: int) -> None:
    """That may be used. So many are at work at once: each waits for all the others."""
    monkeypatch.setattr(cores, "usable", lambda: expected)
    together = threading.Barrier(expected, timeout=10)
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(expected * 10):
            drawn.append(number)
            yield number

    def number_of(number: int) -> int:
        return together.wait() * 0 + number

    for results in (
        mapped_ahead(number_of, items()),
        ahead.started_ahead(lambda pool, number: pool.submit(number_of, number).result, items()),
    ):
        drawn.clear()
        assert next(results) == 0
        assert len(drawn) == expected * PER_THREAD + 1
        assert list(results) == list(range(1, expected * 10))


def test_what_has_not_begun_is_dropped_after_an_error() -> None:
    """Ctrl-C, or an image that has gone, does not wait for the batches behind it."""
    begun: list[int] = []

    def slow(number: int) -> int:
        begun.append(number)
        time.sleep(0.05)
        if number == 0:
            raise ValueError("the first")
        return number

    with pytest.raises(ValueError, match="the first"):
        list(mapped_ahead(slow, range(100), 1, per_thread=20))
    assert len(begun) < 15


def test_torch_computes_with_one_thread_in_each_of_the_pool() -> None:
    """The caller's number is left as it was, also for threads that ask for the first time afterwards."""
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert {1} == set(mapped_ahead(lambda _: torch.get_num_threads(), range(8), 2))
        later = mapped_ahead(lambda _: 0, range(1), 1)
        assert 0 == next(later)
        later.close()
        asked: list[int] = [torch.get_num_threads()]
        other = threading.Thread(target=lambda: asked.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert [3, 3] == asked
    finally:
        torch.set_num_threads(before)
