"""Multinomial logistic regression on features, over a path of penalties; the solver behind ``probe`` and ``lp_ft``.

The recipe of CLIP, VTAB and LP-FT: standardise every feature, minimise mean cross-entropy + (penalty / 2)·‖W‖² by
L-BFGS for penalties from strong to weak, each fit starting from the last, choose on validation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.core.progress import track
from pipeline.training.task import Labelled, Task

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

UNSEEN_BIAS = -30.0
"""Logit bias of a class without a training image: it is never answered."""

PATIENCE = 8
"""Penalties in a row without a better validation loss before the rest, the slowest to fit, is left out."""


class Head(NamedTuple):
    """A linear head on raw features: ``features @ weight.T + bias``. Weight float32 [classes, feature_dim]."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weight.T + self.bias


class Scaler(NamedTuple):
    """Mean and standard deviation of each feature, float64 [feature_dim]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scaler:
        """Constant features get a deviation of 1, so that they become 0 and stay out of the way."""
        std = features.std(axis=0, dtype=np.float64)
        return cls(features.mean(axis=0, dtype=np.float64), np.where(std > 1e-8, std, 1.0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) / self.std


class Probe(NamedTuple):
    """The chosen head and how it was chosen."""

    head: Head
    penalty: float
    accuracy: float
    """On what it was chosen on: the validation split, or the held-out folds."""
    selection: str
    penalties: Sequence[float]
    """All that could have been chosen."""

    @property
    def is_inside(self) -> bool:
        """Is the penalty neither the strongest nor the weakest, so that the best one was within reach?"""
        return min(self.penalties) < self.penalty < max(self.penalties)


def solve(task: Task, penalties: Sequence[float], *, refit: bool) -> Probe:
    """Choose the penalty on the validation split, or by cross-validation where that is too small, and fit the head.

    ``refit`` fits it to the validation images too once they have served their purpose. Not for a head that is trained
    further: the validation split must stay unseen to judge by, as it does for ``Task.fit_images``.
    """
    with threadpool_limits(1):  # sums over several threads round differently
        folds, selection = _folds(task)
        penalty, accuracy = choose_penalty(folds, penalties, len(task.classes))
        seen = task.train_set if task.holds_out and not refit else task.all_set
        head = next(path(seen, [penalty], len(task.classes)))
    return Probe(head, penalty, accuracy, selection, penalties)


def choose_penalty(
    folds: Sequence[tuple[Labelled, Labelled]], penalties: Sequence[float], classes: int
) -> tuple[float, float]:
    """The penalty with the lowest held-out cross-entropy, and its held-out accuracy.

    ``folds`` are pairs of (fit on, judge on). Cross-entropy decides, not accuracy: it still tells penalties apart where
    a few dozen held-out images give all of them the same number of hits. The path ends early once it only gets worse.
    """
    ordered = sorted(penalties, reverse=True)
    count = sum(len(held_out) for _, held_out in folds)
    best_loss, best, waited = math.inf, (ordered[0], 0.0), 0
    fits = zip(ordered, *(path(fit, ordered, classes) for fit, _ in folds), strict=True)
    for penalty, *heads in track(fits, what="probe", unit="penalties", total=len(ordered)):
        answers = [
            (head.logits(held_out.features), held_out.labels) for head, (_, held_out) in zip(heads, folds, strict=True)
        ]
        loss = sum(cross_entropy(logits, labels) * len(labels) for logits, labels in answers) / count
        hits = sum(int((logits.argmax(axis=1) == labels).sum()) for logits, labels in answers)
        waited += 1
        if loss < best_loss:
            best_loss, best, waited = loss, (penalty, hits / count), 0
        if waited == PATIENCE:
            break
    return best


def _folds(task: Task) -> tuple[list[tuple[Labelled, Labelled]], str]:
    """Pairs of (fit on, judge on)."""
    if task.holds_out:
        return [(task.train_set, task.val_set)], "validation split"
    everything = task.all_set
    count = int(np.clip(_smallest_class(everything.labels), 2, 5))
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with one image is missing from one fold; that is handled
        rows = list(splitter.split(everything.features, everything.labels))
    pairs = [(_rows(everything, fit), _rows(everything, held_out)) for fit, held_out in rows]
    return pairs, f"{count}-fold cross-validation"


def _smallest_class(labels: np.ndarray) -> int:
    counts = np.bincount(labels)
    return int(counts[counts > 0].min())


def _rows(data: Labelled, rows: np.ndarray) -> Labelled:
    return Labelled(data.features[rows], data.labels[rows])


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows of log Σ exp(logits) − logit of the label."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())


def path(data: Labelled, penalties: Sequence[float], classes: int) -> Iterator[Head]:
    """Yield the head for each penalty, in order; each fit starts where the one before ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaler = Scaler.of(data.features)
    scaled = scaler(data.features)
    model = LogisticRegression(solver="lbfgs", max_iter=1000, warm_start=True, tol=1e-5)
    for penalty in penalties:
        model.C = 1 / (penalty * len(data))  # sklearn minimises ½‖W‖² + C · Σ cross-entropy
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # weak penalties may stop at max_iter; validation judges
            model.fit(scaled, data.labels)
        yield _folded(model, scaler, classes)


def _folded(model: LogisticRegression, scaler: Scaler, classes: int) -> Head:
    """Fold the standardisation into the head, and give classes that were not seen a bias that never wins."""
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # sklearn keeps one row for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    full_weight = np.zeros((classes, weight.shape[1]))
    full_bias = np.full(classes, UNSEEN_BIAS)
    full_weight[model.classes_] = weight / scaler.std
    full_bias[model.classes_] = bias - (weight / scaler.std) @ scaler.mean
    return Head(full_weight.astype(np.float32), full_bias.astype(np.float32))
