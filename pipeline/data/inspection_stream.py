"""Every image of a source, looked at once, on all cores."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from threadpoolctl import threadpool_limits

from pipeline.core import cores
from pipeline.core.ahead import started_ahead
from pipeline.core.allocation import freed_memory_kept
from pipeline.core.batches import batched
from pipeline.data.inspection import Inspection, inspect
from pipeline.data.inspection_cache import InspectionCache
from pipeline.data.inspectors import Inspectors

Item = TypeVar("Item")

FEWEST_AT_ONCE, MOST_AT_ONCE = 16, 32
"""Files that a thread is handed: asking a process for one tiny file would take as long as the look at it, and a process
that waits for the next question has lost its caches."""

TURNS = 8
"""Of each thread, at least, where there are files enough: none is left with much to do while the others are done."""


def inspect_all(
    items: Iterable[Item],
    content: Callable[[Item], bytes | Path],
    cache: InspectionCache,
    workers: int = 0,
    *,
    total: int = 0,
) -> Generator[tuple[Item, Inspection], None, None]:
    """Each item with its inspection, in order; ``workers`` threads (0: one per core) run ahead on files, and have a
    process each where there are thousands: from the first on where ``total``, the number of items, is so much larger
    than what ``cache`` knows.

    Files that it knows, unchanged, are not read.

    Bytes are looked at in this thread: they come from sources of small images, where threads that hand the GIL to
    and fro made the making four times slower. Only the bytes of items in flight are held.

    Until the stream ends or is closed, in the thread that began it, linear algebra has one thread in the whole process:
    its products here are too small to share.
    """

    def start(pool: Executor, batch: list[tuple[Item, bytes | Path]]) -> Callable[[], list[tuple[Item, Inspection]]]:
        known = [cache.find(encoded) if isinstance(encoded, Path) else None for _, encoded in batch]
        new = [it for (_, it), seen in zip(batch, known, strict=True) if seen is None and isinstance(it, Path)]
        looked_at = pool.submit(cache.look, new, inspectors.inspect) if new else None

        def finish() -> list[tuple[Item, Inspection]]:
            found = iter(looked_at.result() if looked_at else ())
            return [
                (item, seen or (inspect(it) if isinstance(it, bytes) else next(found)))
                for (item, it), seen in zip(batch, known, strict=True)
            ]

        return finish

    at_once = total // (TURNS * (workers or cores.usable()))
    batches = _batches(items, content, max(FEWEST_AT_ONCE, min(MOST_AT_ONCE, at_once)))
    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's: odd metadata, and bombs, which `opened` refuses by itself
        freed_memory_kept(),
        threadpool_limits(1, user_api="blas"),  # OpenMP too would be torch's number of threads
        Inspectors(expected=total - cache.known_before) as inspectors,
        contextlib.closing(started_ahead(start, batches, workers)) as ahead,
    ):
        try:
            for inspected in ahead:
                yield from inspected
        finally:
            inspectors.stop()  # before `ahead` waits for what its threads are at


def _batches(
    items: Iterable[Item], content: Callable[[Item], bytes | Path], at_once: int
) -> Iterator[list[tuple[Item, bytes | Path]]]:
    """Files ``at_once``; bytes one by one, so that few are held."""
    both = ((item, content(item)) for item in items)
    for is_bytes, alike in groupby(both, lambda pair: isinstance(pair[1], bytes)):
        yield from batched(alike, 1 if is_bytes else at_once)
