"""The embedded target."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.core.context import Context
from pipeline.data.sources import handwritten_digits
from pipeline.data.sources._record import Record


def read(seed: int = 0, **params: object) -> list[Record]:
    return list(handwritten_digits.records(handwritten_digits.Params(**params), Context(Path(), seed=seed)))


def labelled(records: list[Record]) -> set[str]:
    return {record.name for record in records if record.split == "train" and record.label is not None}


def test_few_labels_and_half_kept_as_test():
    """1,797 images; 5 labels per class outside test; every test image labelled."""
    records = read()
    test = [record for record in records if record.split == "test"]

    assert 1797 == len(records)
    assert abs(len(test) - 1797 / 2) < 6
    assert all(record.label for record in test)
    assert {str(digit): 5 for digit in range(10)} == Counter(r.label for r in records if r.name in labelled(records))


@pytest.mark.parametrize(("fewer", "more"), [(1, 5), (5, 20), (20, None)])
def test_more_labels_keep_the_earlier_ones(fewer, more):
    """Labelling more images takes no label back and moves no image."""
    small, large = read(labels_per_class=fewer), read(labels_per_class=more)

    assert labelled(small) < labelled(large)
    assert [record.split for record in small] == [record.split for record in large]


def test_the_seed_moves_labels_but_not_the_test_part():
    """Seeds are compared on the same test images."""
    one, two = read(seed=1), read(seed=2)

    assert [record.split for record in one] == [record.split for record in two]
    assert labelled(one) != labelled(two)


def test_all_labels():
    """null gives every training image its label."""
    assert all(record.label for record in read(labels_per_class=None))
