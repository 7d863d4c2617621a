"""Multinomial logistic regression on features, over a path of penalties; the solver behind ``probe`` and ``lp_ft``.

The recipe of CLIP, VTAB and LP-FT: standardise every feature, minimise mean cross-entropy + (penalty / 2)·‖W‖² for
penalties from strong to weak, each fit starting from what came before it, choose on validation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.core.errors import TrainingError
from pipeline.core.progress import track
from pipeline.training.classifiers import folds as held_out_folds
from pipeline.training.classifiers import logistic
from pipeline.training.classifiers.folds import Fold
from pipeline.training.task import Labelled, Task

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

UNSEEN_BIAS = -30.0
"""Logit bias of a class without a training image: it is never answered."""

TOLERANCE = 1e-5
"""Of scikit-learn's solver: the largest entry of the gradient that it may leave."""

FEW_ITERATIONS = 9
"""Of scikit-learn's solver: where the Newton method takes no longer for a first penalty, it begins."""

LARGEST_COPY = 2**24
"""Numbers in a copy of the features in double precision, 128 MiB."""

PATIENCE = 8
"""Penalties in a row without a better validation loss before the rest, the slowest to fit, is left out."""


class Head(NamedTuple):
    """A linear head on raw features: ``features @ weight.T + bias``. Weight float32 [classes, feature_dim]."""

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def of_known(cls, known: np.ndarray, weight: np.ndarray, bias: np.ndarray, classes: int) -> Head:
        """Over all ``classes``, from the rows of the ``known`` ones; the others are never answered."""
        full_weight = np.zeros((classes, weight.shape[1]))
        full_bias = np.full(classes, UNSEEN_BIAS)
        full_weight[known] = weight
        full_bias[known] = bias
        return cls(full_weight.astype(np.float32), full_bias.astype(np.float32))

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weight.T + self.bias

    def tempered(self, temperature: float) -> Head:
        """With its logits divided by ``temperature``; what is never answered stays so."""
        never = self.bias == np.float32(UNSEEN_BIAS)
        bias = np.where(never, self.bias, self.bias / temperature)
        return Head((self.weight / temperature).astype(np.float32), bias.astype(np.float32))


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
    accuracy: float | None
    """On what it was chosen on: the validation split, or the held-out folds; None where nothing could be held out."""
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
        folds, selection = held_out_folds.of_task(task)
        penalty, accuracy = choose_penalty(folds, penalties, len(task.classes))
        seen = task.train_set if task.holds_out and not refit else task.all_set
        head = next(path(seen, [penalty], len(task.classes)))
    return Probe(head, penalty, accuracy, selection, penalties)


class Training(NamedTuple):
    """Rows that a probe is chosen and at last fitted on, where they are more or other than the task's labelled ones."""

    folds: Sequence[Fold]
    everything: Labelled
    weights: np.ndarray | None
    """Of ``everything``, [n], with a mean of about 1; None weighs all alike."""
    selection: str


def solve_on(training: Training, penalties: Sequence[float], classes: int) -> Probe:
    """Choose the penalty on the folds, and fit the head to everything."""
    with threadpool_limits(1):
        penalty, accuracy = choose_penalty(training.folds, penalties, classes)
        head = next(path(training.everything, [penalty], classes, training.weights))
    return Probe(head, penalty, accuracy, training.selection, penalties)


def choose_penalty(
    folds: Sequence[Fold | tuple[Labelled, Labelled]], penalties: Sequence[float], classes: int
) -> tuple[float, float | None]:
    """The penalty with the lowest held-out cross-entropy, and its held-out accuracy; without folds the middle one.

    Cross-entropy decides, not accuracy: it still tells penalties apart where a few dozen held-out images give all of
    them the same number of hits. The path ends early once it only gets worse. Weights of held-out rows weigh their
    cross-entropy (Sugiyama et al. 2007), never the accuracy. An image of a class that its fold was not fitted to is a
    miss under every penalty, and has no part in the cross-entropy.
    """
    pairs = [Fold(*fold) for fold in folds]
    ordered = sorted(penalties, reverse=True)
    if not folds:
        return ordered[len(ordered) // 2], None
    count = sum(len(fold.held_out) for fold in pairs)
    best: tuple[float, float | None] = (ordered[0], None)
    best_loss, waited = math.inf, 0
    fits = zip(ordered, *(path(fold.fit, ordered, classes, fold.fit_weights) for fold in pairs), strict=True)
    for penalty, *heads in track(fits, what="probe", unit="penalties", total=len(ordered)):
        given = (head.logits(fold.held_out.features) for head, fold in zip(heads, pairs, strict=True))
        answers = [held_out_folds.answered(fold, logits) for fold, logits in zip(pairs, given, strict=True)]
        answers = [answer for answer in answers if len(answer.labels)]
        judged = sum(len(answer.labels) for answer in answers)
        loss = sum(cross_entropy(*answer) * len(answer.labels) for answer in answers) / max(1, judged)
        hits = sum(answer.hits for answer in answers)
        waited += 1
        if loss < best_loss:
            best_loss, best, waited = loss, (penalty, hits / count), 0
        if waited == PATIENCE:
            break
    return best


def cross_entropy(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over rows, weighted if so wished, of log Σ exp(logits) − logit of the label."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return float(losses.mean() if weights is None else np.average(losses, weights=weights))


def path(data: Labelled, penalties: Sequence[float], classes: int, weights: np.ndarray | None = None) -> Iterator[Head]:
    """Yield the head for each penalty, in order; each fit starts where the one before ended."""
    fitter = Fitter(data, classes)
    for penalty in penalties:
        yield fitter.fit(penalty, weights)


class Fitter:
    """Fits one head after another to the same rows, each from the ones before it.

    What the Newton method of :mod:`logistic` saves costs dearly at first: on 1,400 rows of 1,280 features and two
    classes its decomposition takes as long as 240 iterations of scikit-learn's L-BFGS, and a penalty takes five. So
    L-BFGS begins, warm-started and in double precision. Once the iterations that the Newton method would have
    saved have taken as long as the decomposition, it goes on from there, as it does where L-BFGS does not converge:
    what is lost against the better of the two is about one decomposition. It begins where that comes at once, or a copy
    of the features in double precision would be large.
    """

    def __init__(self, data: Labelled, classes: int) -> None:
        self._data, self._classes = data, classes
        with np.errstate(invalid="ignore", over="ignore"):
            self._scaler = Scaler.of(data.features)
        if not np.isfinite(self._scaler.mean).all():
            raise TrainingError("A feature is not a number or endless for some image, so no probe can be fitted.")
        self._known, self._labels = np.unique(data.labels, return_inverse=True)
        if len(self._known) < 2:
            raise TrainingError("A probe tells classes apart, but the images to be fitted to are all of one class.")
        self._solver: logistic.Solver | None = None
        self._warm: _WarmStarted | None = None
        count, dim = data.features.shape
        cost = logistic.Cost.of(count, dim, len(self._known))
        if data.features.size <= LARGEST_COPY and sum(cost) > FEW_ITERATIONS:
            self._warm = _WarmStarted(data, self._scaler, cost)

    def fit(self, penalty: float, weights: np.ndarray | None = None) -> Head:
        """The head for this penalty; ``weights`` [n] have a mean of about 1, None weighs all rows alike.

        Should the Newton method not come to its end, it says so, and scikit-learn's fits this head from the beginning.

        Raises:
            TrainingError: no row has a weight.
        """
        if weights is not None and not weights.sum() > 0:
            raise TrainingError("All images weigh nothing, so no probe can be fitted to them.")
        if self._warm is not None:
            if self._warm.fit(penalty, weights):
                return folded(self._warm.model, self._scaler, self._classes)
            self._go_on()
        found = self._newton().solve(self._penalty_of_all(penalty), weights)
        if not found.is_converged:
            print(
                f"  probe · penalty {penalty:.2g} · stopped {found.gap:.1g} above the least loss; scikit-learn's "
                "solver takes over",
                flush=True,
            )
            return by_scikit_learn(self._data, penalty, self._classes, weights)
        weight = found.weight.T / self._scaler.std
        return Head.of_known(self._known, weight, found.bias - weight @ self._scaler.mean, self._classes)

    def _penalty_of_all(self, penalty: float) -> float:
        """Of two classes one row of weights is penalised, their difference, as everywhere else: ‖w‖² = 2 ‖W‖²."""
        return 2 * penalty if len(self._known) == 2 else penalty

    def _newton(self) -> logistic.Solver:
        if self._solver is None:
            rows = logistic.Rows(self._data.features, *self._scaler)
            self._solver = logistic.Solver(rows, self._labels, len(self._known))
        return self._solver

    def _go_on(self) -> None:
        """With the Newton method, from where scikit-learn's stands."""
        assert self._warm is not None, "it is what stands there"
        weight, bias = both_rows(self._warm.model)
        self._warm = None  # and its copy of the features
        self._newton().begin(weight.T, bias)


class _WarmStarted:
    """scikit-learn's L-BFGS on one copy of the standardised features, for as many iterations as it is given."""

    def __init__(self, data: Labelled, scaler: Scaler, cost: logistic.Cost) -> None:
        from sklearn.linear_model import LogisticRegression

        self._scaled, self._labels = scaler(data.features), data.labels
        self._free, self._left = round(cost.fit), round(cost.decomposition)
        self.model = LogisticRegression(solver="lbfgs", warm_start=True, tol=TOLERANCE)

    def fit(self, penalty: float, weights: np.ndarray | None) -> bool:
        """Did ``model`` come to its end before its iterations did?"""
        from sklearn.exceptions import ConvergenceWarning

        # sklearn minimises ½‖W‖² + C · Σ cross-entropy
        self.model.set_params(C=1 / (penalty * len(self._labels)), max_iter=max(1, self._free + self._left))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.model.fit(self._scaled, self._labels, sample_weight=weights)
        self._left -= max(0, int(self.model.n_iter_.max()) - self._free)
        return not any(issubclass(one.category, ConvergenceWarning) for one in told)


def by_scikit_learn(data: Labelled, penalty: float, classes: int, weights: np.ndarray | None = None) -> Head:
    """The same head from scikit-learn's L-BFGS in double precision: slower, and what :class:`Fitter` is held to."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaler = Scaler.of(data.features)
    strength = 1 / (penalty * len(data))  # sklearn minimises ½‖W‖² + C · Σ cross-entropy
    model = LogisticRegression(solver="lbfgs", C=strength, max_iter=1000, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties may stop at max_iter; validation judges
        model.fit(scaler(data.features), data.labels, sample_weight=weights)
    return folded(model, scaler, classes)


def centred(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same softmax from logits whose mean over classes is zero for every image.

    The largest of them is then never below zero, and a class that is not to be answered loses everywhere. Logistic
    regression from zero, and ridge on one-hot labels, need no such care.
    """
    return weight - weight.mean(axis=0), bias - bias.mean()


def folded(model: LogisticRegression | LinearSVC, scaler: Scaler, classes: int, *, centre: bool = False) -> Head:
    """Fold the standardisation into the head, and give classes that were not seen a bias that never wins.

    ``centre`` as :func:`centred` does, for models whose logits do not add up to zero of themselves.
    """
    weight, bias = both_rows(model)
    weight = weight / scaler.std
    bias = bias - weight @ scaler.mean
    if centre:
        weight, bias = centred(weight, bias)
    return Head.of_known(model.classes_, weight, bias, classes)


def both_rows(model: LogisticRegression | LinearSVC) -> tuple[np.ndarray, np.ndarray]:
    """Weights [classes, feature_dim] and biases, also for two classes, of which scikit-learn keeps one row."""
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias
