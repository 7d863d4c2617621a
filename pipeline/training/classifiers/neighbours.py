"""Weighted votes of the nearest labelled images; the numbers behind ``knn``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.models.heads import SMALLEST, NeighboursHead
from pipeline.training.classifiers.folds import take
from pipeline.training.classifiers.heads import tensors
from pipeline.training.task import Labelled

ROWS_AT_ONCE = 1024


class Votes(NamedTuple):
    """How many neighbours vote, and how fast a vote's weight falls with the distance."""

    k: int
    temperature: float


def normalised(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Centred, and of length 1; float32 [n, feature_dim]."""
    centred = (features - centre).astype(np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.maximum(length, 1e-12)


def exemplars(data: Labelled, most: int, seed: int) -> Labelled:
    """At most about ``most`` of the images, equally many of each class as far as they go, in their old order."""
    if len(data) <= most:
        return data
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(data))
    rank = np.empty(len(data), dtype=np.int64)  # of an image within its class
    for label in np.unique(data.labels):
        rows = shuffled[data.labels[shuffled] == label]
        rank[rows] = np.arange(len(rows))
    kept = np.lexsort((np.argsort(shuffled), rank))[:most]
    return take(data, np.sort(kept))


def votes_path(data: Labelled, features: np.ndarray, settings: Sequence[Votes], classes: int) -> Iterator[np.ndarray]:
    """Logits [n, classes] of ``features`` for each setting; distances are computed once."""
    centre = data.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    known = normalised(data.features, centre)
    most = min(len(data), max(setting.k for setting in settings))
    parts = [
        _nearest(normalised(features[start : start + ROWS_AT_ONCE], centre) @ known.T, most)
        for start in range(0, len(features), ROWS_AT_ONCE)
    ]
    similarity, rows = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    voted, images = data.labels[rows], np.arange(len(rows))
    for setting in settings:
        k = min(setting.k, most)
        nearest = similarity[:, :k] / setting.temperature
        weights = np.exp(nearest - nearest[:, :1])
        votes = np.zeros((len(rows), classes), weights.dtype)
        for neighbour in range(k):
            votes[images, voted[:, neighbour]] += weights[:, neighbour]
        yield np.log(votes / weights.sum(axis=1, keepdims=True) + SMALLEST)


def _nearest(similarity: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``most`` largest of each row, the largest first, and where they stand."""
    rows = np.argpartition(-similarity, most - 1, axis=1)[:, :most]
    found = np.take_along_axis(similarity, rows, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(rows, order, axis=1)


def head_of(data: Labelled, setting: Votes, classes: int) -> NeighboursHead:
    """The exemplars and how they vote."""
    centre = data.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    return NeighboursHead(
        **tensors(
            centre=centre,
            exemplars=normalised(data.features, centre),
            votes=np.eye(classes, dtype=np.float32)[data.labels],
            k=min(setting.k, len(data)),
            temperature=setting.temperature,
        )
    )
