"""Cutting a stream into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last perhaps shorter; reads no further ahead than the list it makes.

    (``itertools.batched`` does this from Python 3.12 on.)
    """
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
