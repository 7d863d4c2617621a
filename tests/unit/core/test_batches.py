"""Streams cut into batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batches import batched


@given(st.lists(st.integers(), max_size=50), st.integers(1, 12))
def test_batches_put_together_are_the_stream(items: list[int], size: int) -> None:
    """In order; all full but the last, none empty."""
    batches = list(batched(iter(items), size))
    assert items == [item for batch in batches for item in batch]
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(0 < len(batch) <= size for batch in batches)


def test_no_more_is_read_than_the_batch_needs() -> None:
    remaining = iter(range(10))
    assert next(batched(remaining, 3)) == [0, 1, 2]
    assert next(remaining) == 3
