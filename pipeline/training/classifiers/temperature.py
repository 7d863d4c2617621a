"""One temperature that makes softmax(logits / temperature) mean what it says.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017): a single number, fitted by likelihood on images that
the logits were not fitted to, takes away most of the over- or under-confidence and changes no answer.
"""

from __future__ import annotations

import math

import numpy as np

STEPS = 60
WIDEST = 1e4
"""The temperature lies within this factor of the logits' spread, either way."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T > 0 with the lowest mean cross-entropy of softmax(logits / T).

    The cross-entropy is convex in 1 / T, so that its one minimum is found by Newton's method inside a bracket. One
    image in n + 1 counts as unlabelled, spread evenly over the classes (Platt 1999): n images that are all answered
    rightly then ask for much confidence and not for endless confidence.

    Args:
        logits: [n, classes], n ≥ 1; −inf for a class that cannot be answered.
        labels: int64 [n]; none of a class that cannot be answered.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    possible = np.isfinite(shifted)
    finite = np.where(possible, shifted, 0.0)
    spread = float(np.abs(finite).mean())
    if spread == 0:
        return 1.0
    unsure = 1 / (len(labels) + 1)
    wanted = (1 - unsure) * finite[np.arange(len(labels)), labels] + unsure * finite.sum(1) / possible.sum(1)
    low, high = -math.log(WIDEST * spread), math.log(WIDEST / spread)
    at = -math.log(spread)
    for _ in range(STEPS):
        slope, curvature = _derivatives(shifted, finite, float(wanted.mean()), math.exp(at))
        low, high = (low, at) if slope > 0 else (at, high)
        step = at - slope / curvature if curvature > 0 else high
        following = step if low < step < high else (low + high) / 2
        if abs(following - at) < 1e-9:
            break
        at = following
    return math.exp(-at)


def _derivatives(shifted: np.ndarray, finite: np.ndarray, wanted: float, inverse: float) -> tuple[float, float]:
    """First and (about the minimum) second derivative of the cross-entropy by log(1 / T), at 1 / T = ``inverse``."""
    shares = np.exp(shifted * inverse)
    shares /= shares.sum(axis=1, keepdims=True)
    expected = (shares * finite).sum(axis=1)
    variance = (shares * np.square(finite)).sum(axis=1) - np.square(expected)
    return inverse * float(expected.mean() - wanted), inverse**2 * float(variance.mean())
