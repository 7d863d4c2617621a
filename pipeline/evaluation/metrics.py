"""Scores of a classifier from labels, predictions and probabilities. Plain numpy; the tests compare with scikit-learn.

Shapes: ``labels`` and ``predicted`` are class numbers, int64 [images]; ``probabilities`` float [images, classes];
``confusion`` int [..., classes, classes] with actual classes in rows. Functions of a confusion matrix take any number
of leading axes, so that one call scores all bootstrap resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of the reliability diagram, as in Guo et al. 2017."""

TOP = 5
TOP_FROM_CLASSES = 6
"""Top-5 accuracy says something only where there are more than five classes."""

Floats = NDArray[np.float64]
Reals = NDArray[np.floating]
Integers = NDArray[np.int64]


def confusion_matrix(labels: Integers, predicted: Integers, classes: int) -> Integers:
    """Counts [actual, predicted]."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: Integers) -> Floats:
    """Share of images on the diagonal."""
    return _diagonal(confusion).sum(-1) / confusion.sum((-2, -1))


def recalls(confusion: Integers) -> Floats:
    """Per class; NaN for a class without images."""
    return _ratio(_diagonal(confusion), confusion.sum(-1))


def precisions(confusion: Integers) -> Floats:
    """Per class; NaN for a class that was never predicted."""
    return _ratio(_diagonal(confusion), confusion.sum(-2))


def f1_scores(confusion: Integers) -> Floats:
    """Per class, 2·TP / (actual + predicted); NaN for a class that neither occurs nor is predicted."""
    return _ratio(2 * _diagonal(confusion), confusion.sum(-1) + confusion.sum(-2))


def balanced_accuracy(confusion: Integers) -> Floats:
    """Mean recall over the classes that have images."""
    return _mean_where(recalls(confusion), confusion.sum(-1) > 0)


def macro(scores: Floats, confusion: Integers) -> Floats:
    """Mean over the classes that occur or are predicted; one that was never predicted counts as zero."""
    return _mean_where(scores, confusion.sum(-1) + confusion.sum(-2) > 0)


def weighted(scores: Floats, confusion: Integers) -> Floats:
    """Mean weighted by the number of images; a class that was never predicted counts as zero."""
    images = confusion.sum(-1)
    return (np.nan_to_num(scores) * images).sum(-1) / images.sum(-1)


def cohen_kappa(confusion: Integers) -> Floats:
    """Agreement beyond chance, (p_o − p_e) / (1 − p_e): 0 for answers that do not depend on the image, 1 where all are
    right; NaN where labels and answers are all of one class (Cohen 1960).
    """
    images = confusion.sum((-2, -1))
    by_chance = _ratio((confusion.sum(-1) * confusion.sum(-2)).sum(-1), images**2)
    return _ratio(accuracy(confusion) - by_chance, 1 - by_chance)


def f1_macro(confusion: Integers) -> Floats:
    return macro(f1_scores(confusion), confusion)


def brier(labels: Integers, probabilities: Reals) -> float:
    """Mean over images of the squared distance between the probabilities and the one-hot label (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def top_accuracy(labels: Integers, probabilities: Reals, top: int = TOP) -> float:
    """Share of images whose label is among the ``top`` most probable classes."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return float((best == labels[:, None]).any(1).mean())


class Reliability(NamedTuple):
    """Equal bins of confidence in (0, 1]; means are NaN in empty bins."""

    images: Integers
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, weighted by images."""
        gaps = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((gaps * self.images).sum() / self.images.sum())


def reliability(correct: NDArray[np.bool_], confidence: Reals, bins: int = BINS) -> Reliability:
    """Bin predictions by their confidence; ``(low, high]`` as in Guo et al. 2017, https://arxiv.org/abs/1706.04599."""
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(number, minlength=bins)
    return Reliability(
        images,
        _ratio(np.bincount(number, weights=confidence, minlength=bins), images),
        _ratio(np.bincount(number, weights=correct.astype(np.float64), minlength=bins), images),
    )


def _diagonal(confusion: Integers) -> Integers:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: NDArray, whole: NDArray) -> Floats:
    """``part / whole``, NaN where ``whole`` is zero."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean_where(scores: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Mean over the last axis of the counted scores, NaN among them taken as zero."""
    return (np.nan_to_num(scores) * counted).sum(-1) / np.maximum(counted.sum(-1), 1)
