"""95 % intervals: how far a score would move if other test images had been drawn.

Bootstrap intervals resample images with replacement and take the 2.5 and 97.5 percentiles (Efron 1979). Scores that
depend only on counts need no image-by-image resampling: the counts of a resample are one multinomial draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def wilson(hits: int, trials: int) -> Interval | None:
    """Wilson's score interval of a share; sensible for few trials and near 0 or 1. None without trials.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    if trials == 0:
        return None
    share, square = hits / trials, Z * Z / trials
    middle = (share + square / 2) / (1 + square)
    reach = Z * np.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    return Interval(max(0.0, float(middle - reach)), min(1.0, float(middle + reach)))


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
