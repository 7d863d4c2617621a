"""Labels in doubt: images whose features speak for another class than the one they were given.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
https://arxiv.org/abs/1911.00068) on features of the frozen backbone:

1. Probabilities of each image from a classifier that was fitted to all others: ridge regression onto the classes, whose
   leave-one-out answers follow from one fit (:func:`left_out`).
2. A threshold for each class: the mean probability that images given that class have for it. An image counts for the
   class of those it reaches the threshold of that is most probable. The counts estimate how many images of each given
   class belong to each other class.
3. So many images, those with the largest margin, are in doubt ("prune by noise rate").

Where the classifier is hardly better than chance (:data:`LEAST_KAPPA`), no label is doubted: most of what it would name
are its own errors.

What is found is where labels and features disagree: a wrong label, an ambiguous image, or a class the backbone does not
see. It is for people to look at; nothing is removed and no gate asks. Only labels that are learnt from are judged,
those of train and val: wrong ones in test stand among the worst mistakes, and test labels choose nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.core.seeding import unit
from pipeline.data.manifest import Manifest
from pipeline.evaluation import metrics
from pipeline.evaluation.report import LabelReview, Suspect

PENALTIES = np.geomspace(1e2, 1e-4, 13)
"""Of the ridge regression; the one with the smallest leave-one-out error is taken."""

ENOUGH = 10
"""Labelled images that a class needs for its labels to be judged: of fewer, one left out is missed too much."""

LEAST_KAPPA = 0.25
"""Cohen's κ of its answers and the given labels that the classifier must reach for its doubts to count: two classes of
equal size five eighths right. Not more, as wrong labels bring it down, too."""

NAMED = 24
"""Suspects at most that the report names."""


class Doubts(NamedTuple):
    """Rows in doubt, the surest first, int64 each."""

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    """What the features speak for."""


NO_DOUBTS = Doubts(np.array([], dtype=np.int64), np.array([], dtype=np.int64))


def review(
    manifest: Manifest, features: NDArray[np.floating], classes: list[str], *, at_most: int
) -> LabelReview | None:
    """Look at the labels of the train and val splits; None where there is nothing to judge by.

    Args:
        manifest: of the target.
        features: [rows, D], of the manifest's rows.
        classes: the model's.
        at_most: so many images are looked at, always the same of the same images; 0 looks at none.
    """
    frame = manifest.frame
    known = frame["label"].isin(classes) & frame["split"].isin(["train", "val"])
    lot = frame["id"].map(lambda digest: unit(0, "labels", digest)).where(known)
    rows = np.flatnonzero(known & (lot.rank(method="first") <= at_most))
    labels = np.array([classes.index(label) for label in frame["label"].iloc[rows]], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(classes))
    if (counts >= ENOUGH).sum() < 2:
        return None
    with threadpool_limits(1):  # sums over several threads round differently
        probabilities = left_out(features[rows], labels, len(classes))
    answers = probabilities.argmax(1)
    trusted = bool(metrics.cohen_kappa(metrics.confusion_matrix(labels, answers, len(classes))) >= LEAST_KAPPA)
    doubts = in_doubt(probabilities, labels) if trusted else NO_DOUBTS
    named = zip(rows[doubts.rows[:NAMED]], doubts.rows, doubts.classes, strict=False)
    return LabelReview(
        images=len(rows),
        suspects=len(doubts.rows),
        accuracy=float((answers == labels).mean()),
        trusted=trusted,
        unjudged=[classes[number] for number in np.flatnonzero((counts > 0) & (counts < ENOUGH))],
        named=[_suspect(frame.loc[row], classes[other], probabilities[number, other]) for row, number, other in named],
    )


def _suspect(row: pd.Series, likelier: str, confidence: float) -> Suspect:
    given = {key: str(row[key]) for key in ("id", "name", "split")}
    return Suspect(**given, given=row["label"], likelier=likelier, confidence=round(float(confidence), 4))


def left_out(features: NDArray[np.floating], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Probabilities [n, classes] of each image by ridge regression on all the others.

    Least squares on standardised features x̂ [n, D] and one-hot labels; with the hat matrix H of the fit to all images,
    the answer to image i of the fit without it is y_i − (y_i − ŷ_i) / (1 − H_ii) (Allen 1974, PRESS). A regression on
    one-hot labels estimates probabilities; they are cut to [0, 1] and brought to a sum of one.
    """
    scaled, truth = _standardised(features), np.eye(classes)[labels]
    count, share = len(labels), truth.mean(axis=0)
    values, turned = _principal(scaled)
    cross = turned.T @ (truth - share) / count
    leverages = 1 / count + np.square(turned) @ (1 / (values[:, None] + PENALTIES)) / count
    best, lowest = truth, np.inf
    for penalty, leverage in zip(PENALTIES, leverages.T, strict=True):
        missed = truth - share - turned @ (cross / (values[:, None] + penalty))
        missed /= np.maximum(1 - leverage, 1e-9)[:, None]
        error = float(np.square(missed).mean())
        if error < lowest:
            best, lowest = truth - missed, error
    kept = np.clip(best, 0, 1)
    return kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)


def _standardised(features: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = features.astype(np.float64)
    std = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(std > 1e-8, std, 1.0)


def _principal(scaled: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues of x̂ᵀx̂ / n and the rows in its eigenvectors' coordinates; by x̂x̂ᵀ where that is the smaller."""
    count, dimensions = scaled.shape
    if count <= dimensions:
        values, vectors = np.linalg.eigh(scaled @ scaled.T / count)
        values = np.clip(values, 0, None)
        return values, vectors * np.sqrt(values * count)
    values, vectors = np.linalg.eigh(scaled.T @ scaled / count)
    return np.clip(values, 0, None), scaled @ vectors


def in_doubt(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> Doubts:
    """Which labels [n] the out-of-sample ``probabilities`` [n, classes] speak against, by confident learning."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    thresholds = np.array(
        [probabilities[labels == number, number].mean() if counts[number] else np.inf for number in range(classes)]
    )
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = reached.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], reached[counted].argmax(axis=1)), 1)
    found: list[tuple[float, int, int]] = []
    for given in np.flatnonzero((counts >= ENOUGH) & (joint.sum(axis=1) > 0)):
        rows = np.flatnonzero(labels == given)
        expected = np.rint(joint[given] / joint[given].sum() * counts[given]).astype(int)
        for other in np.flatnonzero((expected > 0) & (np.arange(classes) != given)):
            margins = probabilities[rows, other] - probabilities[rows, given]
            first = np.argsort(-margins, kind="stable")[: expected[other]]
            likeliest = probabilities[rows[first]].argmax(axis=1) == other
            found += [(-margins[place], int(rows[place]), int(other)) for place in first[likeliest]]
    found.sort()
    return Doubts(
        np.array([row for _, row, _ in found], dtype=np.int64), np.array([c for _, _, c in found], dtype=np.int64)
    )
