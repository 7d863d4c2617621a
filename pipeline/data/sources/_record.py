"""What a data source gives to ingest.

A source is a file in this package with

- ``SUMMARY``: what it reads, in a sentence;
- ``Params``: a :class:`~pipeline.core.params.PluginParams` whose ``name`` defaults to the file's name;
- ``records(params, context) -> Records``: the images, one at a time, always in the same order;
- ``location(params) -> str | None``: the file or folder that must be tracked as a dependency; None for sources that
  need no file of the user's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What people call a split (in lower case), and what we call it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image, not yet looked at."""

    content: Path | bytes
    """A file, or encoded bytes of an image that has no file of its own (made, or taken out of an archive)."""
    name: str
    """What people call it; unique within the source where the source can make it so."""
    label: str | None = None
    split: str | None = None
    group: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    """The user's further columns."""


@dataclass
class Records(Iterator[Record]):
    """Records, made as they are asked for, with what is known before the first."""

    items: Iterator[Record]
    total: int
    left_out: Counter[str] = field(default_factory=Counter)
    """How many files beside the images are no images by their name, by suffix: ``.heic``, or nothing."""
    undecodable: list[str] = field(default_factory=list)
    """Images left out because their names are not UTF-8, escaped for people: no manifest could hold such a name."""

    def __next__(self) -> Record:
        return next(self.items)


def in_params(key: str) -> str:
    """Where a source's parameter was set; ingest puts ``ingest.target.`` or ``ingest.source.`` before it."""
    return f"{key} in params.yaml"
