"""A bounded number of a manifest's images."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.data.manifest import Manifest
from pipeline.data.sampling import evenly


def rows(count: int) -> Manifest:
    return Manifest.of(pd.DataFrame({"name": [f"{number:04d}" for number in range(count)]}))


@pytest.mark.parametrize(("images", "limit", "expected"), [(129, 128, 128), (128, 128, 128), (5, 128, 5), (1000, 7, 7)])
def test_as_many_as_the_limit_allows_are_taken(images, limit, expected):
    """One image more than the limit costs one image, not half of them."""
    assert expected == len(evenly(rows(images), limit))


def test_they_lie_at_equal_steps():
    """From the first to the last; one alone is the first."""
    assert ["0000", "0003", "0006", "0009"] == evenly(rows(10), 4).frame["name"].tolist()
    assert ["0000"] == evenly(rows(10), 1).frame["name"].tolist()
    assert 0 == len(evenly(rows(0), 4))
