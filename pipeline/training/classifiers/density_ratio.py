"""How much more often an image like this one comes in the target than in the source, from a domain classifier.

Sugiyama et al., "Covariate Shift Adaptation by Importance Weighted Cross Validation" (JMLR 2007); the ratio by a
logistic regression as in Bickel et al. (ICML 2007): w(x) = (n_s / n_t) · p(target | x) / p(source | x).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.core.errors import DataError
from pipeline.core.seeding import derive
from pipeline.training.classifiers.linear_probe import Scaler

CLIP = (0.1, 10.0)
MIN_EFFECTIVE_SHARE = 0.05
MAX_CLIPPED_SHARE = 0.5

INVERSE_PENALTY = 0.01
"""C of the domain classifier: strongly regularised, as an overconfident one gives all weight to a few images."""


class Weights(NamedTuple):
    """``values`` [n] for the source's images, mean 1."""

    values: np.ndarray
    effective: float
    """(Σw)² / Σw²: as many images of equal weight would estimate a mean as well (Kish 1965)."""
    clipped_share: float
    """Weights that were cut to the bounds. Many cut ones hide behind a large effective number: both must be told."""

    @property
    def effective_share(self) -> float:
        return self.effective / len(self.values)

    @property
    def told(self) -> str:
        """As part of a sentence."""
        return (
            f"{self.effective:,.0f} of {len(self.values):,} source images are effective ({self.effective_share:.0%}), "
            f"{self.clipped_share:.0%} of the weights were clipped to {CLIP[0]:g} or {CLIP[1]:g}"
        )


def density_ratio(source: np.ndarray, target: np.ndarray, seed: int) -> Weights:
    """Weights for the rows of ``source`` [n, d] that make them look like ``target`` [m, d].

    Each half of both domains is judged by a classifier that was fitted to the other half: one that has seen an image
    knows its domain too well.

    Raises:
        DataError: fewer than two images in a domain.
    """
    if min(len(source), len(target)) < 2:
        raise DataError(
            expected="two images or more in each domain, to tell the domains apart",
            found=f"{len(source)} source and {len(target)} target images",
            where="train.strategy.name in params.yaml",
            remedy="Add images, or choose another strategy.",
        )
    ratio = np.empty(len(source))
    halves = [_halves(len(source), seed, "source"), _halves(len(target), seed, "target")]
    for half in (0, 1):
        fit_source, fit_target = source[halves[0] != half], target[halves[1] != half]
        rows = halves[0] == half
        ratio[rows] = _ratio(fit_source, fit_target, source[rows])
    clipped = np.clip(ratio, *CLIP)
    values = clipped / clipped.mean()
    return Weights(values, float(values.sum() ** 2 / np.square(values).sum()), float((clipped != ratio).mean()))


def _halves(count: int, seed: int, domain: str) -> np.ndarray:
    """0 or 1 for each row, as many of one as of the other."""
    return np.random.default_rng(derive(seed, "density ratio", domain)).permutation(np.arange(count) % 2)


def _ratio(source: np.ndarray, target: np.ndarray, asked: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    both = np.concatenate([source, target])
    scaler = Scaler.of(both)
    is_target = np.repeat([0, 1], [len(source), len(target)])
    with threadpool_limits(1):
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000).fit(scaler(both), is_target)
        odds = np.exp(np.clip(model.decision_function(scaler(asked)), -50, 50))
    return len(source) / len(target) * odds


def check(weights: Weights) -> None:
    """Refuse weights that say nothing.

    Raises:
        DataError: hardly any image is left, or most weights are cut: the domains do not overlap.
    """
    if weights.effective_share < MIN_EFFECTIVE_SHARE or weights.clipped_share > MAX_CLIPPED_SHARE:
        raise DataError(
            expected=f"domains that overlap: at least {MIN_EFFECTIVE_SHARE:.0%} of the source effective and at most "
            f"{MAX_CLIPPED_SHARE:.0%} of the weights clipped",
            found=weights.told,
            where="train.strategy.name: instance in params.yaml",
            remedy="Weights cannot bridge this gap: take standardise or linear_ot, which move the features, or mcc.",
        )
