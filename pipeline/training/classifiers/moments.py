"""Maps that give one domain's features the mean and spread of the other's, in closed form.

| Map | What it matches | Source |
|---|---|---|
| standardising | mean and deviation of every feature on its own | what AdaBN does inside a network (Li et al. 2016) |
| CORAL | mean and covariance | Sun, Feng & Saenko 2016, https://arxiv.org/abs/1511.05547 |
| linear transport | mean and covariance, by the least displacement | Dowson & Landau 1982; Flamary et al. 2019 |

All three are affine. Covariances are of samples and often smaller than their dimension, so EPSILON · mean(diag) · I is
added to both. One thread computes: sums over several round differently.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

EPSILON = 0.1


class Affine(NamedTuple):
    """x ↦ (x − before) · matrix + after; ``matrix`` is [feature_dim, feature_dim], or [feature_dim] where diagonal."""

    before: np.ndarray
    matrix: np.ndarray
    after: np.ndarray

    def moved(self, features: np.ndarray) -> np.ndarray:
        """The image of ``features`` [n, feature_dim], float32."""
        centred = features - self.before
        turned = centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix
        return (turned + self.after).astype(np.float32)


def standardising(source: np.ndarray, target: np.ndarray) -> Affine:
    """Each feature on its own: from the source's mean and deviation to the target's.

    A feature that does not vary in the source only gets its mean moved.
    """
    spread = source.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-8, target.std(axis=0, dtype=np.float64) / np.maximum(spread, 1e-8), 1.0)
    return Affine(_mean(source), scale, _mean(target))


@threadpool_limits.wrap(limits=1)
def coral(source: np.ndarray, target: np.ndarray, epsilon: float = EPSILON) -> Affine:
    """Whiten by the source's covariance, colour by the target's: C_s^−½ · C_t^½."""
    (whitening,) = _powers(_covariance(source, epsilon), -0.5)
    (colouring,) = _powers(_covariance(target, epsilon), 0.5)
    return Affine(_mean(source), whitening @ colouring, _mean(target))


@threadpool_limits.wrap(limits=1)
def linear_ot(source: np.ndarray, target: np.ndarray, epsilon: float = EPSILON) -> Affine:
    """The optimal transport between two normal distributions: C_s^−½ · (C_s^½ C_t C_s^½)^½ · C_s^−½."""
    first, second = _covariance(source, epsilon), _covariance(target, epsilon)
    root, inverse_root = _powers(first, 0.5, -0.5)
    (between,) = _powers(root @ second @ root, 0.5)
    return Affine(_mean(source), inverse_root @ between @ inverse_root, _mean(target))


def _mean(features: np.ndarray) -> np.ndarray:
    return features.mean(axis=0, dtype=np.float64)


def _covariance(features: np.ndarray, epsilon: float) -> np.ndarray:
    """Of the rows, plus ``epsilon`` times its mean variance on the diagonal."""
    centred = features - _mean(features)
    covariance = centred.T @ centred / max(1, len(features) - 1)
    mean_variance = np.trace(covariance) / len(covariance)
    return covariance + (epsilon * mean_variance or 1.0) * np.eye(len(covariance))


def _powers(matrix: np.ndarray, *exponents: float) -> list[np.ndarray]:
    """Of a symmetric positive definite matrix, by one eigendecomposition."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = np.maximum(values, np.finfo(np.float64).tiny)
    return [(vectors * values**exponent) @ vectors.T for exponent in exponents]
