"""The gap between slices: certain where it is, and no more than chance where the slices are small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import intervals, scoring


def gaps(**hits: tuple[int, int]):
    """One column ``site`` with (right, images) per value."""
    sites = np.concatenate([[name] * images for name, (_, images) in hits.items()])
    correct = np.concatenate([np.arange(images) < right for right, images in hits.values()])
    return scoring.gaps(scoring.per_slice(pd.DataFrame({"site": sites}), correct))


def test_newcombes_own_example():
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, method 10)."""
    assert pytest.approx((0.0524, 0.3339), abs=5e-5) == intervals.difference((56, 70), (48, 80))


def test_more_comparisons_widen_the_interval():
    one, many = (intervals.difference((56, 70), (48, 80), count) for count in (1, 10))
    assert many.low < one.low < one.high < many.high


def test_the_gap_has_its_slices_and_its_interval():
    (gap,) = gaps(north=(95, 100), south=(60, 100))
    assert ("site", "north", "south", 2) == (gap.column, gap.best, gap.worst, gap.slices)
    assert pytest.approx(0.35) == gap.gap
    assert 0.2 < gap.gap_low < 0.35 < gap.gap_high < 0.5


def test_a_tiny_slice_does_not_hide_a_certain_gap():
    """``east`` is the worst on one image; the surest gap is between the other two."""
    (gap,) = gaps(north=(95, 100), south=(60, 100), east=(0, 1))
    assert ("north", "south") == (gap.best, gap.worst)
    assert gap.gap_low > 0.15


def test_small_slices_show_no_certain_gap():
    """All right against half wrong, on four images each."""
    (gap,) = gaps(north=(4, 4), south=(2, 4))
    assert gap.gap_low < 0 < gap.gap


def test_one_value_has_no_gap():
    assert [] == gaps(north=(4, 9))


def test_the_mean_of_one_figure_per_image_has_an_interval():
    """About ±1.96 standard errors; equal seeds, equal bounds."""
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    bounds = intervals.of_mean(values, resamples=4000, seed=1)
    assert pytest.approx(values.mean() - 1.96 * 0.005, abs=5e-4) == bounds.low
    assert bounds == intervals.of_mean(values, resamples=4000, seed=1)
