"""Ridge regression and linear discriminant analysis from sums over the images, a whole path for one decomposition.

Neither needs the images themselves: counts, sums and products of features are enough, and those of several sites add
up. So what a federation solves from the sums of its sites is what one site with all images would have solved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.training.classifiers.linear_probe import Head, centred
from pipeline.training.classifiers.shifted_systems import ShiftedSystems
from pipeline.training.task import Labelled

ROWS_AT_ONCE = 4096
"""Features are centred in parts, so that memory does not double."""

IN_DOUBLE = 2**24
"""Numbers up to which features are multiplied in double precision. Beyond it is worth seconds, and single precision
does: on 50,000 × 2,048 features of networks logits of either path changed by a hundred-thousandth."""

SMALLEST_SHARE = 1e-10
"""A feature whose variance is below this share of its mean square varies by rounding alone."""


@dataclass(frozen=True)
class Sums:
    """What ridge and LDA need to know of labelled images; float64, sums over several sets are the sums of the sets'."""

    counts: np.ndarray
    """Images of each class, [classes]."""
    totals: np.ndarray
    """Σ x over the images of each class, [classes, feature_dim]."""
    products: np.ndarray
    """Σ x xᵀ over all images, [feature_dim, feature_dim]."""

    @classmethod
    def of(cls, data: Labelled, classes: int) -> Self:
        """Products are taken of centred features and moved back, so that little is lost in single precision; totals, by
        which a federation knows images that were sent twice, are always in double."""
        feature_dim = data.features.shape[1]
        totals, products = np.zeros((classes, feature_dim)), np.zeros((feature_dim, feature_dim))
        with threadpool_limits(1):  # sums over several threads round differently
            for rows, labels in _parts(data):
                totals += (labels[:, None] == np.arange(classes)).T.astype(np.float64) @ rows.astype(np.float64)
            total = totals.sum(axis=0)
            precision = np.float64 if data.features.size <= IN_DOUBLE else np.float32
            centre = (total / max(1, len(data))).astype(precision)
            for rows, _ in _parts(data):
                centred_rows = rows.astype(precision) - centre
                products += centred_rows.T @ centred_rows
        centre = centre.astype(np.float64)
        products += np.outer(total, centre) + np.outer(centre, total) - len(data) * np.outer(centre, centre)
        return cls(np.bincount(data.labels, minlength=classes).astype(np.float64), totals, products)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.counts + other.counts, self.totals + other.totals, self.products + other.products)

    @property
    def count(self) -> float:
        return float(self.counts.sum())

    @property
    def mean(self) -> np.ndarray:
        return self.totals.sum(axis=0) / self.count

    @property
    def std(self) -> np.ndarray:
        """Of each feature; 1 for one that never varies, so that it stays out of the way."""
        mean_square = np.diag(self.products) / self.count
        variance = mean_square - np.square(self.mean)
        return np.sqrt(np.where(variance > SMALLEST_SHARE * mean_square + SMALLEST_SHARE**2, variance, 1.0))


def _parts(data: Labelled) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some features [n, feature_dim] and their labels at a time."""
    for start in range(0, len(data), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        yield data.features[part], data.labels[part]


def ridge_path(sums: Sums, penalties: Sequence[float]) -> Iterator[Head]:
    """For each penalty the head that minimises mean ‖y − W x̂ − b‖² + penalty · ‖W‖².

    x̂ are standardised features [n, D], y one-hot labels [n, classes]. The solution is Wᵀ = (X̂ᵀX̂ / n + penalty · I)⁻¹
    X̂ᵀY / n, and b the class shares: W is all that changes along the path.
    """
    mean, std = sums.mean, sums.std
    scatter = sums.products / sums.count - np.outer(mean, mean)
    cross = (sums.totals - np.outer(sums.counts, mean)) / std / sums.count
    systems = ShiftedSystems(scatter / np.outer(std, std), cross.T)
    shares, known = sums.counts / sums.count, sums.counts > 0
    for penalty in penalties:
        weight = systems.solution(1.0, penalty).T / std
        bias = shares - weight @ mean
        yield Head.of_known(known, weight[known], bias[known], len(known))


def lda_path(sums: Sums, shrinkages: Sequence[float]) -> Iterator[Head]:
    """For each shrinkage γ in (0, 1] the head of linear discriminant analysis on standardised features.

    Logits are μ_cᵀ S⁻¹ x̂ − ½ μ_cᵀ S⁻¹ μ_c + log π_c, with class means μ_c, class shares π_c and the shrunken covariance
    within classes S = (1 − γ) Σ + γ · mean(diag Σ) · I. What the logits of all classes have in common is taken away.
    """
    mean, std, known = sums.mean, sums.std, sums.counts > 0
    counts, means = sums.counts[known], sums.totals[known] / sums.counts[known, None]
    within = (sums.products - (means * counts[:, None]).T @ means) / sums.count
    covariance, centres = within / np.outer(std, std), (means - mean) / std
    if np.diag(covariance).max() < SMALLEST_SHARE:
        covariance = np.eye(len(covariance))  # one image per class: nothing varies within them
    systems, variance = ShiftedSystems(covariance, centres.T), float(np.diag(covariance).mean())
    for shrinkage in shrinkages:
        solved = systems.solution(1 - shrinkage, shrinkage * variance).T
        weight = solved / std
        bias = np.log(counts / sums.count) - (centres * solved).sum(axis=1) / 2 - weight @ mean
        yield Head.of_known(known, *centred(weight, bias), len(known))
