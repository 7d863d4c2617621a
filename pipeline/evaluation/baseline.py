"""The simple baseline: what a transfer has to beat to be worth its cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLASS_MEANS = "nearest class mean on frozen features"
CONSTANT = "always the most frequent class"


def class_means(
    features: NDArray[np.floating], labels: NDArray[np.int64], queries: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Class numbers for ``queries`` [Q, D]: the class whose mean feature is nearest by cosine.

    Features [N, D] are centred on the mean of the labelled images and scaled to unit length first, as in SimpleShot
    (Wang et al. 2019, https://arxiv.org/abs/1911.04623). Classes without a labelled image are never answered.
    """
    centre = features.mean(0, dtype=np.float64)
    known = np.unique(labels)
    rows = _unit(features - centre)
    means = np.stack([rows[labels == number].mean(0) for number in known])
    return known[(_unit(queries - centre) @ _unit(means).T).argmax(1)]


def most_frequent(labels: NDArray[np.int64]) -> int:
    """The class that is right most often; the lowest number among equals."""
    return int(np.bincount(labels).argmax())


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows scaled to length one; a zero row stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
