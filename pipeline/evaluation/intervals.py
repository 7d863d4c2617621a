"""95 % intervals: how far a score would move if other test images had been drawn.

Bootstrap intervals resample images with replacement and take the 2.5 and 97.5 percentiles (Efron 1979). Scores that
depend only on counts need no image-by-image resampling: the counts of a resample are one multinomial draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Z = 1.959963984540054
"""Normal quantile of the 95 % level."""

MAX_CELLS = 20_000_000
"""Counts held at once; resamples of many classes come in several parts."""


class Interval(NamedTuple):
    """Both ends are included."""

    low: float
    high: float


def wilson(hits: int, trials: int, z: float = Z) -> Interval | None:
    """Wilson's score interval of a share; sensible for few trials and near 0 or 1. None without trials.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953. ``z`` is the normal quantile of another level.
    """
    if trials == 0:
        return None
    share, square = hits / trials, z * z / trials
    middle = (share + square / 2) / (1 + square)
    reach = z * np.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    # Rounding would leave a last digit between none and 0, and between all and 1.
    low = 0.0 if hits == 0 else max(0.0, float(middle - reach))
    return Interval(low, 1.0 if hits == trials else min(1.0, float(middle + reach)))


def difference(first: tuple[int, int], second: tuple[int, int], comparisons: int = 1) -> Interval:
    """Newcombe's interval of the difference of two independent shares, each given as (hits, trials > 0).

    Built from Wilson's intervals of both (Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 17, 1998, method 10).
    Where this is one of several ``comparisons`` among which the largest is looked for, the level is raised so that all
    of them hold at once (Bonferroni).
    """
    z = NormalDist().inv_cdf(1 - (1 - LEVEL) / (2 * comparisons))
    shares = [hits / trials for hits, trials in (first, second)]
    bounds = [wilson(hits, trials, z) for hits, trials in (first, second)]
    assert bounds[0] is not None, "the first share has no trials"
    assert bounds[1] is not None, "the second share has no trials"
    apart = shares[0] - shares[1]
    below = math.hypot(shares[0] - bounds[0].low, bounds[1].high - shares[1])
    above = math.hypot(bounds[0].high - shares[0], shares[1] - bounds[1].low)
    return Interval(max(-1.0, apart - below), min(1.0, apart + above))


def mean_of_shares(hits: NDArray[np.int64], trials: NDArray[np.int64]) -> Interval:
    """Price and Bonett's interval of the mean of independent shares, ``hits`` of ``trials`` [shares], each with trials.

    Wald's with 4 more trials, half of them hits, divided among the shares: it stays sensible where one, or each, is all
    or nothing (Price and Bonett, "An improved confidence interval for a linear function of binomial proportions",
    Computational Statistics & Data Analysis 45, 2004).
    """
    count = len(hits)
    drawn = trials + 4 / count
    shares = (hits + 2 / count) / drawn
    reach = Z * math.sqrt((shares * (1 - shares) / drawn).sum()) / count
    middle, share = float(shares.mean()), float((hits / trials).mean())
    return Interval(max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach)))


def paired_difference(first: int, second: int, trials: int) -> Interval:
    """Tango's score interval of (``first`` − ``second``) / ``trials``, two shares of the same images.

    ``first`` counts what only the one has hit, ``second`` what only the other has; at least one trial. It stays
    sensible where both are 0 (Tango, "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17, 1998). Its ends are where the score test begins to reject.
    """
    middle = (first - second) / trials
    return Interval(*(_turning_point(first, second, trials, middle, end) for end in (-1.0, 1.0)))


def _turning_point(first: int, second: int, trials: int, inside: float, outside: float) -> float:
    """Where between ``inside`` and ``outside`` the score test begins to reject; by halving."""
    for _ in range(60):
        apart = (inside + outside) / 2
        linear = -first - second + (2 * trials - first + second) * apart
        constant = -second * apart * (1 - apart)
        root = math.sqrt(max(0.0, linear**2 - 8 * trials * constant))
        share = (root - linear) / (4 * trials)  # most likely share of the second, if the difference is ``apart``
        variance = trials * (2 * share + apart * (1 - apart))
        if (first - second - trials * apart) ** 2 <= Z**2 * variance:
            inside = apart
        else:
            outside = apart
    return inside


def of_mean(values: NDArray, *, resamples: int, seed: int) -> Interval:
    """Bootstrap interval of the mean of one figure per image, ``values`` [images], at least one."""
    rng = np.random.default_rng(seed)
    part = max(1, MAX_CELLS // len(values))
    means = []
    for start in range(0, resamples, part):
        drawn = rng.integers(0, len(values), size=(min(part, resamples - start), len(values)))
        means.append(values[drawn].mean(1))
    return _percentiles(np.concatenate(means))


def of_confusion(
    confusion: NDArray[np.int64],
    scores: Mapping[str, Callable[[NDArray[np.int64]], NDArray]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Bootstrap intervals of several scores of one confusion matrix [classes, classes], from the same resamples."""
    rng = np.random.default_rng(seed)
    images, classes = int(confusion.sum()), len(confusion)
    cells = np.flatnonzero(confusion)  # a cell without images stays empty in every resample
    shares = confusion.ravel()[cells] / images
    part = max(1, MAX_CELLS // classes**2)
    drawn: dict[str, list[NDArray]] = {name: [] for name in scores}
    for start in range(0, resamples, part):
        count = min(part, resamples - start)
        matrices = np.zeros((count, classes * classes), dtype=np.int64)
        matrices[:, cells] = rng.multinomial(images, shares, size=count)
        for name, score in scores.items():
            drawn[name].append(score(matrices.reshape(count, classes, classes)))
    return {name: _percentiles(np.concatenate(parts)) for name, parts in drawn.items()}


def paired_gain(fixed: int, broken: int, images: int, *, resamples: int, seed: int) -> Interval:
    """Bootstrap interval of the difference of two accuracies on the same images.

    Pairs of answers are resampled, so that what both get right or wrong cancels out: only the images that one of them
    ``fixed`` and the other has ``broken`` move the difference.
    """
    rng = np.random.default_rng(seed)
    shares = np.array([fixed, broken, images - fixed - broken]) / images
    counts = rng.multinomial(images, shares, size=resamples)
    return _percentiles((counts[:, 0] - counts[:, 1]) / images)


def _percentiles(values: NDArray) -> Interval:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))
