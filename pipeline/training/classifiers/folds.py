"""What is fitted and what is held out: the validation split where it is large enough, else stratified folds."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from pipeline.training.task import Labelled, Task

NOTHING_HELD_OUT = "nothing: too few labelled images, or groups of them, to hold one out"
"""What settings are chosen on where none can be judged; those in the middle of their path are then taken."""


class Fold(NamedTuple):
    """Fit on one part, judge on the other. Weights are one per row with a mean of about 1; None weighs all alike."""

    fit: Labelled
    held_out: Labelled
    fit_weights: np.ndarray | None = None
    held_out_weights: np.ndarray | None = None


class Rows(NamedTuple):
    """Row numbers of ``Task.all_set``, int64 each."""

    fit: np.ndarray
    held_out: np.ndarray


def of_task(task: Task) -> tuple[list[Fold], str]:
    """Folds over the task's labelled features, and what to call them in the record."""
    rows, selection = rows_of_task(task)
    return [Fold(take(task.all_set, part.fit), take(task.all_set, part.held_out)) for part in rows], selection


def rows_of_task(task: Task) -> tuple[list[Rows], str]:
    """The same folds as row numbers, for those who know more of a row than its features and its label.

    Images of one group are never apart. A fold that would be fitted to one class, as it holds out the only image of the
    other, is left out.
    """
    everything = task.all_set
    if task.holds_out:
        order = np.arange(len(everything))
        return [Rows(order[: len(task.train)], order[len(task.train) :])], "validation split"
    if np.bincount(everything.labels).max() < 2:
        return [], NOTHING_HELD_OUT
    count = int(np.clip(_smallest_class(everything.labels), 2, 5))
    split = stratified(everything.labels, task.groups, count, seed=0)
    rows = [part for part in split if len(np.unique(everything.labels[part.fit])) > 1]
    if not rows:
        return [], NOTHING_HELD_OUT
    count, dropped = len(split), len(rows) < len(split)
    return rows, f"{len(rows)} of {count} folds of cross-validation" if dropped else f"{count}-fold cross-validation"


def stratified(labels: np.ndarray, groups: np.ndarray | None, count: int, *, seed: int) -> list[Rows]:
    """At most ``count`` folds with the classes spread evenly, the images of a group in one of them; none where there
    is one group, or one image of each class.

    A class with one image, or group, is missing from what a fold is fitted to.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    apart = len(labels) if groups is None else len(np.unique(groups))
    count = min(count, apart, int(np.bincount(labels).max(initial=0)))
    if count < 2:
        return []
    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than there are folds
        split = [Rows(*pair) for pair in splitter.split(labels, labels, groups)]
    return [part for part in split if len(part.held_out)]


def _smallest_class(labels: np.ndarray) -> int:
    counts = np.bincount(labels)
    return int(counts[counts > 0].min())


def take(data: Labelled, rows: np.ndarray) -> Labelled:
    """Some of the rows, in the order of ``rows``."""
    return Labelled(data.features[rows], data.labels[rows])


class Answered(NamedTuple):
    """The held-out images of a fold that can be judged by."""

    logits: np.ndarray
    """[n, classes], −∞ for classes that the fold was not fitted to."""
    labels: np.ndarray
    weights: np.ndarray | None
    """[n]; None weighs all alike."""

    @property
    def hits(self) -> int:
        return int((self.logits.argmax(axis=1) == self.labels).sum())


def answered(fold: Fold, logits: np.ndarray) -> Answered:
    """What ``logits`` [n, classes] of the held-out images say where the fold could know.

    An image of a class that its fold was not fitted to is a miss under every setting: it tells none of them from
    another, is left out here, and counts in the number of held-out images alone.
    """
    known = np.bincount(fold.fit.labels, minlength=logits.shape[1]) > 0
    rows = known[fold.held_out.labels]
    kept = logits[rows]
    kept[:, ~known] = -np.inf
    weights = None if fold.held_out_weights is None else fold.held_out_weights[rows]
    return Answered(kept, fold.held_out.labels[rows], weights)


def joined(*parts: Labelled) -> Labelled:
    """All rows of all parts."""
    return Labelled(np.concatenate([part.features for part in parts]), np.concatenate([part.labels for part in parts]))
