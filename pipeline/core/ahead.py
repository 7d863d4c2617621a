"""Work on a stream that runs ahead of whoever reads it."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from pipeline.core import cores

Item = TypeVar("Item")
Made = TypeVar("Made")

PER_THREAD = 4
"""Items in flight: enough that no thread waits, few enough that memory does not grow."""


def mapped_ahead(
    make: Callable[[Item], Made], items: Iterable[Item], workers: int = 0, *, per_thread: int = PER_THREAD
) -> Generator[Made, None, None]:
    """``make`` of each item, in order, made by ``workers`` threads (0: one per core) while the caller is busy.

    For work that leaves Python's lock alone, such as decoding images. ``items`` are drawn in the caller's thread, the
    next one before a result is handed over: ``per_thread`` for each thread are at work or done while the caller is busy
    with another. What ``make`` raises is raised where its result would have come; what ``items`` raise, as soon as they
    do.
    """
    return started_ahead(lambda pool, item: pool.submit(make, item).result, items, workers, per_thread=per_thread)


def started_ahead(
    start: Callable[[Executor, Item], Callable[[], Made]],
    items: Iterable[Item],
    workers: int = 0,
    *,
    per_thread: int = PER_THREAD,
) -> Generator[Made, None, None]:
    """As :func:`mapped_ahead` where not every item is work for a thread.

    ``start`` is called in the caller's thread and gives the call that ends in the result: of what it has handed to the
    pool, of what it knows already, or of what the caller's own thread is to do when its turn comes.
    """
    workers = workers or cores.usable()
    remaining = iter(items)
    torch = sys.modules.get("torch")
    with _threads_kept(torch), ThreadPoolExecutor(workers, initializer=partial(_one_thread, torch)) as pool:
        try:
            waiting = deque(start(pool, item) for item in islice(remaining, per_thread * workers))
            while waiting:
                made = waiting.popleft()()
                waiting.extend(start(pool, item) for item in islice(remaining, 1))  # the caller may be long
                yield made
        finally:  # after an error, what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread(torch: Any) -> None:
    """Else torch gives each thread of the pool as many of its own as there are cores."""
    if torch:
        torch.set_num_threads(1)


@contextlib.contextmanager
def _threads_kept(torch: Any) -> Iterator[None]:
    """torch's count is also one of the process, which threads take when they first ask: ask here, and put it back."""
    before = torch and torch.get_num_threads()
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)
