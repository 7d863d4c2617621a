"""Scores against scikit-learn's, which is written independently."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline.evaluation import metrics

RANDOM = np.random.default_rng(0)
CLASSES = 7
LABELS = RANDOM.choice(CLASSES - 1, size=400)  # the last class never occurs
PROBABILITIES = RANDOM.dirichlet(np.ones(CLASSES) * 0.4, size=400)
PROBABILITIES[np.arange(400), LABELS] += 0.5
PROBABILITIES[:, 2] = 0  # never predicted
PROBABILITIES /= PROBABILITIES.sum(1, keepdims=True)
PREDICTED = PROBABILITIES.argmax(1)
CONFUSION = metrics.confusion_matrix(LABELS, PREDICTED, CLASSES)
EVERY = list(range(CLASSES))


def test_confusion_has_actual_classes_in_rows():
    np.testing.assert_array_equal(sk.confusion_matrix(LABELS, PREDICTED, labels=EVERY), CONFUSION)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.accuracy(CONFUSION), sk.accuracy_score(LABELS, PREDICTED)),
        (metrics.f1_macro(CONFUSION), sk.f1_score(LABELS, PREDICTED, average="macro", zero_division=0)),
        (
            metrics.macro(metrics.precisions(CONFUSION), CONFUSION),
            sk.precision_score(LABELS, PREDICTED, average="macro", zero_division=0),
        ),
        (
            metrics.macro(metrics.recalls(CONFUSION), CONFUSION),
            sk.recall_score(LABELS, PREDICTED, average="macro", zero_division=0),
        ),
        (
            metrics.weighted(metrics.precisions(CONFUSION), CONFUSION),
            sk.precision_score(LABELS, PREDICTED, average="weighted", zero_division=0),
        ),
        (
            metrics.weighted(metrics.f1_scores(CONFUSION), CONFUSION),
            sk.f1_score(LABELS, PREDICTED, average="weighted", zero_division=0),
        ),
        (
            metrics.top_accuracy(LABELS, PROBABILITIES),
            sk.top_k_accuracy_score(LABELS, PROBABILITIES, k=5, labels=EVERY),
        ),
        (
            metrics.brier(LABELS, PROBABILITIES),
            sk.brier_score_loss(LABELS, PROBABILITIES, labels=EVERY, scale_by_half=False),
        ),
    ],
    ids=["accuracy", "f1 macro", "precision", "recall", "precision weighted", "f1 weighted", "top 5", "brier"],
)
def test_equals_scikit_learn(ours, theirs):
    """Classes that never occur or are never predicted are treated as scikit-learn treats them."""
    assert pytest.approx(theirs) == float(ours)


def test_cohen_kappa_is_that_of_scikit_learn():
    """Agreement beyond chance; none where one class is always named, unknown where there is no other."""
    assert pytest.approx(sk.cohen_kappa_score(LABELS, PREDICTED)) == float(metrics.cohen_kappa(CONFUSION))
    assert pytest.approx(0.0) == float(metrics.cohen_kappa(np.array([[90, 0], [10, 0]])))
    assert np.isnan(metrics.cohen_kappa(np.array([[90, 0], [0, 0]])))


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_balanced_accuracy_is_over_the_classes_that_occur():
    assert pytest.approx(sk.balanced_accuracy_score(LABELS, PREDICTED)) == float(metrics.balanced_accuracy(CONFUSION))


def test_per_class_scores_are_unknown_where_there_is_nothing_to_score():
    """Recall of a class without images and precision of one never predicted are NaN, not zero."""
    assert np.isnan(metrics.recalls(CONFUSION)[CLASSES - 1])
    assert np.isnan(metrics.precisions(CONFUSION)[2])


def test_scores_of_many_matrices_at_once():
    """Leading axes are resamples."""
    stacked = np.stack([CONFUSION, CONFUSION * 3])
    np.testing.assert_allclose([metrics.f1_macro(CONFUSION)] * 2, metrics.f1_macro(stacked))


def test_calibration_error_by_hand():
    """Two bins: 3 images at 0.9 of which 2 are right, 1 image at 0.6 that is right: (3·|0.9−2/3| + 1·0.4) / 4."""
    correct = np.array([True, True, False, True])
    bins = metrics.reliability(correct, np.array([0.9, 0.9, 0.9, 0.6]))
    assert pytest.approx((3 * (0.9 - 2 / 3) + 0.4) / 4) == bins.ece
    assert [1, 3] == bins.images[bins.images > 0].tolist()


def test_bins_are_open_below_and_closed_above():
    """A confidence of exactly 1 belongs to the last bin, one of exactly 1/15 to the first."""
    bins = metrics.reliability(np.array([True, True]), np.array([1.0, 1 / 15]))
    assert (1, 1) == (bins.images[0], bins.images[-1])


def test_perfect_confidence_is_perfectly_calibrated():
    assert 0.0 == metrics.reliability(np.ones(5, dtype=bool), np.ones(5)).ece
