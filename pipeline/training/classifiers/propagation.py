"""Labels that spread over a graph of neighbours: what an unlabelled image is near to, through other unlabelled ones.

Zhou et al., "Learning with Local and Global Consistency" (NeurIPS 2004), on the graph and with the certainty weights of
Iscen et al., "Label Propagation for Deep Semi-supervised Learning" (CVPR 2019), with the class mass normalisation of
Zhu et al., "Semi-supervised Learning Using Gaussian Fields and Harmonic Functions" (ICML 2003, §4).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.training.classifiers.neighbours import normalised
from pipeline.training.task import Labelled

POWER = 3
"""Edges weigh cos³, which makes near neighbours count for more."""

ITERATIONS = 50
"""At α = 0.9 what is left out is less than 0.9⁵⁰ = 0.5 %."""


class Propagated(NamedTuple):
    """Of the unlabelled images: shares of each class [m, classes], rows sum to 1 or are 0 where no label arrived."""

    shares: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.shares.argmax(axis=1)

    @property
    def certainty(self) -> np.ndarray:
        """1 − entropy / log(classes), in [0, 1]; 0 where no label arrived."""
        entropy = -(self.shares * np.log(np.maximum(self.shares, 1e-12))).sum(axis=1)
        return np.where(self.shares.sum(axis=1) > 0, np.clip(1 - entropy / np.log(self.shares.shape[1]), 0, 1), 0.0)


@threadpool_limits.wrap(limits=1)  # sums over several threads round differently
def propagate(labelled: Labelled, unlabelled: np.ndarray, classes: int, *, neighbours: int, alpha: float) -> Propagated:
    """Iterate F ← α S F + (1 − α) Y on the graph of all images, S = D^−½ W D^−½.

    W joins every image with its nearest ``neighbours`` by cosine, symmetric, with negative cosines cut to zero. Each
    class of Y has the same total, so that a class with more labels does not spread further for that; what arrives of
    each class is scaled to its share q_c of the labels, F_ic ← q_c F_ic / Σ_j F_jc, so that a labelled image amid a
    dense cluster does not take them all.

    Args:
        labelled: features [n, d] and labels.
        unlabelled: features [m, d].
        classes: how many there are.
        neighbours: of each image.
        alpha: in (0, 1), how much comes from the neighbours.
    """
    from sklearn.neighbors import kneighbors_graph

    rows = np.concatenate([labelled.features, unlabelled])
    rows = normalised(rows, rows.mean(axis=0, dtype=np.float64))
    graph = kneighbors_graph(rows, min(neighbours, len(rows) - 1), mode="distance", metric="euclidean")
    graph.data = np.clip(1 - np.square(graph.data) / 2, 0, None) ** POWER  # |a − b|² = 2 − 2 cos
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1.0))
    start = np.zeros((len(rows), classes))
    start[np.arange(len(labelled)), labelled.labels] = 1
    start /= np.maximum(start.sum(axis=0), 1)
    spread = start
    for _ in range(ITERATIONS):
        spread = alpha * scale[:, None] * (graph @ (scale[:, None] * spread)) + (1 - alpha) * start
    found = spread[len(labelled) :]
    known = np.bincount(labelled.labels, minlength=classes) / len(labelled)
    found = found * (known / np.maximum(found.sum(axis=0), 1e-12))
    total = found.sum(axis=1, keepdims=True)
    return Propagated(np.divide(found, total, out=np.zeros_like(found), where=total > 0))


def balanced(certainty: np.ndarray, labels: np.ndarray, given: int) -> np.ndarray:
    """Weights [n] with a mean of 1: by ``certainty`` within a class, and classes as their shares of the first ``given``
    rows say, those whose labels were given and not reached.

    Else a strong penalty lets the head answer with the class that labels reached most often.
    """
    classes = int(labels.max()) + 1
    shares = np.bincount(labels[:given], minlength=classes)
    weights = (
        certainty * (shares / np.maximum(np.bincount(labels, weights=certainty, minlength=classes), 1e-12))[labels]
    )
    return weights * len(weights) / weights.sum()
