"""Nearest class mean on centred, normalised features, and episodes that tell what few labels are worth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.core.seeding import derive
from pipeline.models.heads import CosineHead
from pipeline.training.classifiers.heads import tensors
from pipeline.training.classifiers.neighbours import normalised
from pipeline.training.task import Labelled

Z = 1.96
"""Of a 95 % interval."""


@threadpool_limits.wrap(limits=1)  # sums over several threads round differently
def prototypes(data: Labelled, centre: np.ndarray, classes: int) -> np.ndarray:
    """The mean direction of each class, float32 [classes, feature_dim], of length 1.

    A class without an image gets the mean of the others: a convex combination is never nearer than the nearest.
    """
    rows = normalised(data.features, centre)
    belongs = (data.labels[:, None] == np.arange(classes)).astype(np.float32)
    means = belongs.T @ rows
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    known = belongs.any(axis=0)
    means[~known] = means[known].mean(axis=0)
    return means


def cosines(data: Labelled, features: np.ndarray, centre: np.ndarray, classes: int) -> np.ndarray:
    """cos(features − centre, prototype), [n, classes]."""
    return normalised(features, centre) @ prototypes(data, centre, classes).T


def head_of(data: Labelled, centre: np.ndarray, temperature: float, classes: int) -> CosineHead:
    """The prototypes of all of ``data``; softmax of cosines divided by ``temperature``."""
    return CosineHead(**tensors(centre=centre, prototypes=prototypes(data, centre, classes), scale=1 / temperature))


class Episodes(NamedTuple):
    """Accuracy over many small tasks drawn from the labelled images."""

    ways: int
    shots: int
    drawn: int
    accuracy: float
    half_width: float
    """Of the 95 % interval of the mean over such episodes."""

    @property
    def told(self) -> str:
        return (
            f"With {self.shots} image(s) of each of {self.ways} classes, {self.drawn} episodes gave "
            f"{self.accuracy:.1%} ± {self.half_width:.1%}."
        )


@threadpool_limits.wrap(limits=1)
def episodes(
    data: Labelled, centre: np.ndarray, *, ways: int, shots: int, queries: int, count: int, seed: int
) -> Episodes | None:
    """N-way K-shot accuracy of the nearest class mean (Vinyals et al. 2016; Snell et al. 2017).

    Each episode draws ``ways`` classes, ``shots`` images of each for its prototypes and up to ``queries`` others to
    answer. Fewer ways where fewer classes have ``shots`` + 1 images; None where less than two have.
    """
    members = [np.flatnonzero(data.labels == label) for label in np.unique(data.labels)]
    members = [rows for rows in members if len(rows) > shots]
    ways = min(ways, len(members))
    if ways < 2:
        return None
    rows = normalised(data.features, centre)
    accuracies = []
    for number in range(count):
        random = np.random.default_rng(derive(seed, "episode", number))
        picked = [
            random.permutation(members[row])[: shots + queries] for row in random.permutation(len(members))[:ways]
        ]
        support = np.stack([rows[drawn[:shots]].mean(axis=0) for drawn in picked])
        support /= np.maximum(np.linalg.norm(support, axis=1, keepdims=True), 1e-12)
        asked = np.concatenate([drawn[shots:] for drawn in picked])
        truth = np.repeat(np.arange(ways), [len(drawn) - shots for drawn in picked])
        accuracies.append(float(((rows[asked] @ support.T).argmax(axis=1) == truth).mean()))
    half_width = Z * float(np.std(accuracies, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return Episodes(ways, shots, count, float(np.mean(accuracies)), half_width)
