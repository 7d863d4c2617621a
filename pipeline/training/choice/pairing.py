"""Two networks on the same images: who is better, and is it sure?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Interval, paired_gain

LEVEL = 0.05
RESAMPLES = 2000


class Paired(NamedTuple):
    """Counts over images that both have answered."""

    fixed: int
    """The first is right and the second wrong."""
    broken: int
    """The other way round."""
    images: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
        """From who is right on which image; where one has answered more, the images that both have."""
        count = min(len(first), len(second))
        first, second = first[:count], second[:count]
        return cls(int((first & ~second).sum()), int((~first & second).sum()), count)

    @property
    def gap(self) -> float:
        """Accuracy of the first less that of the second."""
        return (self.fixed - self.broken) / self.images if self.images else 0.0

    def interval(self, seed: int) -> Interval:
        """Bootstrap 95 % interval of the gap."""
        if not self.images:
            return Interval(-1.0, 1.0)
        return paired_gain(self.fixed, self.broken, self.images, resamples=RESAMPLES, seed=seed)

    def is_sure(self, comparisons: int = 1) -> bool:
        """Is the first better, by McNemar's exact test at 5 %, divided by the number of ``comparisons`` (Bonferroni)?

        The test decides and not the interval: a bootstrap of a handful of differing images is too narrow.
        """
        return self.fixed > self.broken and self.p_value < LEVEL / comparisons

    def is_surely_worse(self) -> bool:
        return self.broken > self.fixed and self.p_value < LEVEL

    @property
    def p_value(self) -> float:
        """Two-sided: how often a fair coin would split the differing images as unevenly."""
        from scipy.stats import binomtest

        differing = self.fixed + self.broken
        return float(binomtest(self.fixed, differing).pvalue) if differing else 1.0

    def told(self, seed: int) -> str:
        """``+3.1% (+1.0% to +5.2%)``."""
        interval = self.interval(seed)
        return f"{self.gap:+.1%} ({interval.low:+.1%} to {interval.high:+.1%})"
