"""Four distances between two samples of features, [n, d] each; all are 0 in the limit for samples of one domain.

| Name | What it looks at | Source |
|---|---|---|
| proxy A-distance | whether a linear classifier can tell the domains apart; saturates at 2 | Ben-David et al. 2007 |
| CORAL | second moments: how features vary together | Sun & Saenko 2016, https://arxiv.org/abs/1607.01719 |
| MMD, squared | the whole distribution, at several widths; below 2 | Gretton et al. 2012; Long et al. 2015 |
| Fréchet | means and covariances, as if both were normal | Dowson & Landau 1982; Heusel et al. 2017 |

CORAL and Fréchet are biased upwards by small samples, so a value says nothing without the value of two samples of one
domain of the same size beside it. All but the proxy A-distance change with the unit of the features (MMD does not: its
widths follow the data), hence :mod:`pipeline.evaluation.domains` scales them first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sample = NDArray[np.float64]
"""Features of some images of one domain, [n, d]."""

RIDGE = 0.1
"""Penalty of the domain classifier, as a share of the mean variance of a feature."""

WIDTHS = (-2, -1, 0, 1, 2)
"""k in σ² = 2^k · mean‖x − x′‖²: the kernels of the MMD; steps of one, so that each is the square of the next."""


# -- proxy A-distance --------------------------------------------------------------------------------------------------


def proxy_a_distance(source: Sample, target: Sample) -> float:
    """2(1 − 2ε), ε the held-out error of a linear domain classifier; 2 is told apart without fault, 0 is chance.

    A ridge regression on ±1, fitted on one half of each sample and judged on the other, then the other way round.
    Below 0 the classifier is worse than chance by luck.
    """
    halves = [(source[part::2], target[part::2]) for part in (0, 1)]
    errors = [_domain_error(*fitted, *held_out) for fitted, held_out in (halves, halves[::-1])]
    return 2 * (1 - 2 * float(np.mean(errors)))


def _domain_error(source: Sample, target: Sample, held_out_source: Sample, held_out_target: Sample) -> float:
    """Mean of both domains' error rates, so that a larger domain does not count for more."""
    centre = (source.mean(0) + target.mean(0)) / 2
    rows = np.concatenate([source, target]) - centre
    sides = np.concatenate([np.ones(len(source)), -np.ones(len(target))])
    scatter = rows.T @ rows
    penalty = RIDGE * np.trace(scatter) / len(scatter) or 1.0  # any will do where all features are equal
    direction = np.linalg.solve(scatter + penalty * np.eye(len(scatter)), rows.T @ sides)
    scores = [(held_out_source - centre) @ direction, (centre - held_out_target) @ direction]
    return float(np.mean([np.mean(score < 0) + np.mean(score == 0) / 2 for score in scores]))


# -- moments -----------------------------------------------------------------------------------------------------------


def coral(source: Sample, target: Sample) -> float:
    """‖C_s − C_t‖²_F / 4d² of the covariances; blind to a shift of the mean."""
    return float(np.square(_covariance(source) - _covariance(target)).sum() / (4 * source.shape[1] ** 2))


def frechet(source: Sample, target: Sample) -> float:
    """‖μ_s − μ_t‖² + tr(C_s + C_t − 2(C_s C_t)^½): the squared 2-Wasserstein distance of two normal distributions."""
    first, second = _covariance(source), _covariance(target)
    root = _root(first)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    offset = np.square(source.mean(0) - target.mean(0)).sum()
    return max(0.0, float(offset + np.trace(first) + np.trace(second) - 2 * cross))


def _covariance(rows: Sample) -> NDArray[np.float64]:
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


# -- maximum mean discrepancy ------------------------------------------------------------------------------------------


def mmd(source: Sample, target: Sample) -> float:
    """Squared maximum mean discrepancy, the mean over five Gaussian kernels exp(−‖x − x′‖²/σ²).

    The unbiased estimate: about 0 for two samples of one domain of any size, and then as often below as above. Two
    equal clouds far apart have 1.55, since the widths follow the distance.
    """
    belongs = np.repeat([1.0, 0.0], [len(source), len(target)])[:, None]
    return float(mmd_of_draws(kernel(np.concatenate([source, target])), belongs, 1 - belongs)[0])


def kernel(rows: Sample) -> NDArray[np.float32]:
    """The mean of the five kernels for all pairs of ``rows`` [n, d]: [n, n], 0 on the diagonal."""
    narrow = rows.astype(np.float32)  # half the memory and time; the kernels are smooth
    squares = np.square(narrow).sum(1)
    distances = np.clip(squares[:, None] + squares - 2 * narrow @ narrow.T, 0, None)
    np.fill_diagonal(distances, 0)
    mean = float(distances.mean(dtype=np.float64)) * len(rows) / (len(rows) - 1) or 1.0
    narrower = np.exp(distances / np.float32(-mean * 2.0 ** WIDTHS[-1]))
    total = np.zeros_like(narrower)
    for _ in WIDTHS:
        total += narrower
        np.square(narrower, out=narrower)  # half the σ²
    np.fill_diagonal(total, 0)
    return total / len(WIDTHS)


def mmd_of_draws(
    kernels: NDArray[np.float32], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """:func:`mmd` of many pairs of samples from one kernel matrix [n, n]: an array [draws].

    Column r of ``first`` and of ``second`` [n, draws] is 1 for the rows that belong to the samples of draw r.
    """
    counts = first.sum(0), second.sum(0)
    reached = [kernels @ side.astype(np.float32) for side in (first, second)]
    within = [
        (side * near).sum(0) / (count * (count - 1))
        for side, near, count in zip((first, second), reached, counts, strict=True)
    ]
    between = (first * reached[1]).sum(0) / (counts[0] * counts[1])
    return np.asarray(within[0] + within[1] - 2 * between, dtype=np.float64)
