"""Every image of a source, looked at once, on all cores."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from pipeline.core.ahead import started_ahead
from pipeline.core.allocation import freed_memory_kept
from pipeline.core.batches import batched
from pipeline.data.inspection import Inspection, inspect
from pipeline.data.inspection_cache import InspectionCache
from pipeline.data.inspectors import Inspectors

Item = TypeVar("Item")

FILES_AT_ONCE = 16
"""That a thread is handed: asking a process for one tiny file would take as long as the look at it."""


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
    """

    def start(pool: Executor, batch: list[tuple[Item, bytes | Path]]) -> Callable[[], list[tuple[Item, Inspection]]]:
        files = [encoded for _, encoded in batch if isinstance(encoded, Path)]
        known = {file: seen for file in files if (seen := cache.find(file))}
        new = [file for file in files if file not in known]
        looked_at = pool.submit(cache.look, new, inspectors.inspect) if new else None

        def finish() -> list[tuple[Item, Inspection]]:
            seen = known | dict(zip(new, looked_at.result(), strict=True)) if looked_at else known
            return [(item, inspect(it) if isinstance(it, bytes) else seen[it]) for item, it in batch]

        return finish

    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's: odd metadata, and bombs, which `opened` refuses by itself
        freed_memory_kept(),
        Inspectors(expected=total - cache.known_before) as inspectors,
        contextlib.closing(started_ahead(start, _batches(items, content), workers)) as ahead,
    ):
        for inspected in ahead:
            yield from inspected


def _batches(
    items: Iterable[Item], content: Callable[[Item], bytes | Path]
) -> Iterator[list[tuple[Item, bytes | Path]]]:
    """Files some at a time; bytes one by one, so that few are held."""
    both = ((item, content(item)) for item in items)
    for is_bytes, alike in groupby(both, lambda pair: isinstance(pair[1], bytes)):
        yield from batched(alike, 1 if is_bytes else FILES_AT_ONCE)
