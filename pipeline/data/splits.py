"""Who is in train, val and test: decided by each image's content, never by its position or its label.

Rules, in order:

1. A split that the user gave is kept. What they did not give is drawn from the rest: a set with ``train`` and ``test``
   gets its ``val`` from ``train``; one with ``train`` and ``val`` its ``test``; one with none gets both.
2. Images of one component (same bytes, same group, near-duplicates; :mod:`pipeline.data.near_duplicates`) go together.
   Where one of them has a place in the user's val or test, those without a split of their own follow it.
3. **test** is drawn by content alone: a component is in test when its hash, as a number in [0, 1), is below the share.
   Neither label nor seed has a part in it, so models of different seeds, and next month's model, are measured on images
   that none of them was trained on.
4. **val** is drawn from the labelled remainder, by content and seed. A stratum (one class; or the same set of classes,
   for components that hold several) of more than :data:`SMALL_STRATUM` is cut by the hash; a smaller one gives its
   lowest-ranked ``share × size``. Unlabelled images stay in train: there is nothing to validate on.
5. A labelled class of three components or more that has none in val or test, or none left for train, is repaired by
   moving the one or two whose hashes are nearest to the cut.

The law that follows: adding or labelling images moves none of those already there, except within the newcomer's own
component, between train and val of a small stratum, and in a class that rule 5 had to repair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.core import seeding

SMALL_STRATUM = 40
"""Up to this many components a share is counted, not left to the hash: 20 % of five is one, not none to three."""

ENOUGH_FOR_EACH = 3
"""Labelled components a class needs for one each in train, val and test."""


class _Part(NamedTuple):
    """A component that may be drawn. There are as many as images, so what many share is kept once."""

    key: str
    rows: list[int]
    labels: frozenset[str]


def assign(
    images: pd.DataFrame,
    component: np.ndarray,
    *,
    val_share: float,
    test_share: float,
    seed: int,
    held_out: Mapping[int, str] | None = None,
) -> pd.DataFrame:
    """Columns ``split`` and ``split_given`` for ``images`` of one domain.

    Args:
        images: with ``id``, ``label``, ``group``, ``error`` and ``split`` (the user's, or null).
        component: of each row, int64 of shape (rows,).
        held_out: components that another domain keeps in val or test; images without a split of their own follow.
    """
    given = images["split"]
    split = given.fillna("train").to_numpy(dtype=object)
    places = dict(held_out or {}) | held_out_in(given, component)
    for row in np.flatnonzero(given.isna()):
        split[row] = places.get(int(component[row]), "train")
    parts = [part for number, part in _parts(images, component).items() if number not in places]
    test = _draw_test(parts, test_share) if not (given == "test").any() else set()
    rest = [part for part in parts if part.key not in test]
    val = _draw_val(rest, parts, val_share, seed) if not (given == "val").any() else set()
    for part in parts:
        if part.key in test or part.key in val:
            split[part.rows] = "test" if part.key in test else "val"
    kept = given.notna().to_numpy() & (split == given.to_numpy(dtype=object))
    return pd.DataFrame({"split": split, "split_given": kept}, index=images.index)


def held_out_in(split: pd.Series, component: np.ndarray) -> dict[int, str]:
    """Components with an image in val or test; test wins where there is one in each."""
    return {int(number): name for name in ("val", "test") for number in component[(split == name).to_numpy()]}


def _parts(images: pd.DataFrame, component: np.ndarray) -> dict[int, _Part]:
    """Components by number, unreadable images left out (they stay where they are)."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(images["error"].isna()):
        rows[component[row]].append(int(row))
    own = images["group"].where(images["group"].notna(), images["id"]).to_numpy(dtype=object)
    labels = images["label"].to_numpy(dtype=object)
    strata: dict[frozenset[str], frozenset[str]] = {}
    return {number: _part(members, own, labels, strata) for number, members in rows.items()}


def _part(rows: list[int], own: np.ndarray, labels: np.ndarray, strata: dict[frozenset[str], frozenset[str]]) -> _Part:
    """Its key is the smallest of its members' groups or ids: the same in whatever order they come."""
    known = frozenset(labels[row] for row in rows if not pd.isna(labels[row]))
    return _Part(key=min(own[row] for row in rows), rows=rows, labels=strata.setdefault(known, known))


def _draw_test(parts: list[_Part], share: float) -> set[str]:
    if not share:
        return set()
    rank = {part.key: seeding.unit(0, "test", part.key) for part in parts}
    drawn = {part.key for part in parts if rank[part.key] < share}
    for members in _by_class(parts).values():
        ordered = sorted(members, key=lambda part: rank[part.key])
        if len(ordered) >= ENOUGH_FOR_EACH:
            drawn.add(ordered[0].key)
        drawn -= {part.key for part in ordered[-2:] if len(ordered) >= ENOUGH_FOR_EACH}  # one each for train and val
    return drawn


def _draw_val(parts: list[_Part], all_parts: list[_Part], share: float, seed: int) -> set[str]:
    if not share:
        return set()
    rank = {part.key: seeding.unit(seed, "val", part.key) for part in parts}
    drawn: set[str] = set()
    for stratum in _by_stratum(parts).values():
        drawn |= _lowest(sorted(stratum, key=lambda part: rank[part.key]), rank, share)
    remaining = _by_class(parts)
    for label, members in _by_class(all_parts).items():
        if len(members) >= ENOUGH_FOR_EACH:
            _repair(sorted(remaining.get(label, []), key=lambda part: rank[part.key]), drawn)
    return drawn


def _lowest(ordered: list[_Part], rank: dict[str, float], share: float) -> set[str]:
    """The part of a stratum that goes to val; see rule 4."""
    if len(ordered) > SMALL_STRATUM:
        return {part.key for part in ordered if rank[part.key] < share}
    return {part.key for part in ordered[: int(share * len(ordered) + 0.5)]}


def _repair(ordered: list[_Part], drawn: set[str]) -> None:
    """Give a class its lowest-ranked component in val and leave its highest in train."""
    if len(ordered) >= 2:
        if not any(part.key in drawn for part in ordered):
            drawn.add(ordered[0].key)
        if all(part.key in drawn for part in ordered):
            drawn.discard(ordered[-1].key)


def _by_class(parts: list[_Part]) -> dict[str, list[_Part]]:
    """Parts by each class they hold, classes in sorted order."""
    found: dict[str, list[_Part]] = defaultdict(list)
    for part in parts:
        for label in part.labels:
            found[label].append(part)
    return dict(sorted(found.items()))


def _by_stratum(parts: list[_Part]) -> dict[frozenset[str], list[_Part]]:
    found: dict[frozenset[str], list[_Part]] = defaultdict(list)
    for part in parts:
        if part.labels:
            found[part.labels].append(part)
    return found
