"""A trial from the first image to the report: every part of it, and every way in which a part may be absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.data.manifest import Manifest
from pipeline.evaluation.assessment import NO_CHAMPION, NO_LABELS, Panel, Trial
from pipeline.evaluation.baseline import CLASS_MEANS, CONSTANT
from pipeline.evaluation.intervals import wilson
from pipeline.evaluation.report import Metrics

CLASSES = ["cat", "dog", "owl"]


def manifest(train: int = 6, test: int = 30, labelled: bool = True) -> Manifest:
    """Classes in turn; the user's column ``camera`` is the number of the image modulo 2."""
    count = train + test
    rows = {
        "id": [f"{number:064x}" for number in range(count)],
        "name": [f"{number:03}.png" for number in range(count)],
        "label": [CLASSES[number % 3] if labelled else None for number in range(count)],
        "domain": "target",
        "split": ["train"] * train + ["test"] * test,
        "camera": [f"camera {number % 2}" for number in range(count)],
    }
    return Manifest.of(pd.DataFrame(rows))


def answers(test: int, wrong: int, order: list[str] = CLASSES, confidence: float = 0.8) -> np.ndarray:
    """Probabilities that are right but for the first ``wrong`` images, whose class is taken for the next."""
    rows = np.full((test, 3), (1 - confidence) / 2)
    for number in range(test):
        label = CLASSES[(number + (number < wrong)) % 3]
        rows[number, order.index(label)] = confidence
    return rows


def figures(images: Manifest, challenger: Panel, champion: Panel | None = None) -> Metrics:
    features = np.eye(3)[np.arange(len(images)) % 3]
    trial = Trial(images, challenger, champion, resamples=500, seed=0)
    return Metrics(**trial.figures(features), classes=CLASSES, model_size_mb=1.0)


OURS = Panel("challenger", CLASSES, answers(30, wrong=3))


def test_scores_the_labelled_test_images():
    """27 of 30 are right; each class has ten images; the interval holds the value."""
    metrics = figures(manifest(), OURS)
    assert (30, 0.9) == (metrics.images, metrics.accuracy)
    assert wilson(27, 30) == (metrics.accuracy_low, metrics.accuracy_high)
    assert metrics.f1_macro_low < metrics.f1_macro < metrics.f1_macro_high
    assert 0.9 == pytest.approx(metrics.worst_class_recall)
    assert [10, 10, 10] == [score.images for score in metrics.per_class]
    assert 30 == np.sum(metrics.confusion)
    assert metrics.top5_accuracy is None
    assert [NO_CHAMPION] == metrics.notes


def test_thirty_of_thirty_are_not_surely_all():
    """Resampled images would all be right again. The slice of the whole domain has the same interval."""
    metrics = figures(manifest(), Panel("challenger", CLASSES, answers(30, wrong=0)))
    assert (1.0, 1.0) == (metrics.accuracy, metrics.accuracy_high)
    assert 0.88 < metrics.accuracy_low < 0.89
    (whole,) = [entry for entry in metrics.slices if entry.column == "domain"]
    assert (metrics.accuracy_low, metrics.accuracy_high) == (whole.accuracy_low, whole.accuracy_high)


def test_a_slice_for_each_value_of_the_users_columns():
    slices = {(entry.column, entry.value): entry.images for entry in figures(manifest(), OURS).slices}
    assert {("domain", "target"): 30, ("camera", "camera 0"): 15, ("camera", "camera 1"): 15} == slices


def test_the_champion_is_scored_on_the_same_images_in_whatever_order_its_classes_come():
    """Five against three mistakes: two fixed, none broken."""
    order = ["owl", "cat", "dog"]
    metrics = figures(manifest(), OURS, Panel("bars v3", order, answers(30, wrong=5, order=order)))
    gain = metrics.comparison("champion")
    assert ("bars v3", 30, 2, 0, None) == (gain.name, gain.images, gain.fixed, gain.broken, gain.problem)
    assert pytest.approx(2 / 30) == gain.gain == metrics.gain_over_champion
    assert pytest.approx(25 / 30) == metrics.champion_accuracy
    assert metrics.champion_ece is not None
    assert pytest.approx(0.8) == metrics.per_class[0].champion_recall


def test_a_champion_with_other_classes_is_compared_on_the_shared_ones_and_the_report_says_so():
    champion = Panel("old", ["cat", "dog", "emu"], answers(30, wrong=0, order=CLASSES))
    gain = figures(manifest(), OURS, champion).comparison("champion")
    assert 20 == gain.images
    assert (
        "the challenger no longer answers 'emu' and newly answers 'owl'; only images of shared classes are compared"
        == gain.problem
    )


def test_a_champion_without_a_shared_class_is_not_compared():
    champion = Panel("old", ["a", "b", "c"], answers(30, wrong=0))
    assert figures(manifest(), OURS, champion).comparison("champion") is None


def test_the_baseline_learns_from_the_labelled_images_that_are_not_test():
    """Features are the classes themselves: class means are perfect."""
    metrics = figures(manifest(), OURS)
    assert (CLASS_MEANS, 1.0) == (metrics.comparison("baseline").name, metrics.baseline_accuracy)


def test_without_labelled_training_images_the_baseline_is_the_best_constant_answer():
    metrics = figures(manifest(train=0), OURS)
    assert CONSTANT == metrics.comparison("baseline").name
    assert pytest.approx(1 / 3) == metrics.baseline_accuracy


def test_without_labelled_test_images_nothing_is_scored_and_the_report_says_why():
    metrics = figures(manifest(labelled=False), OURS)
    assert (0, None, []) == (metrics.images, metrics.accuracy, metrics.comparisons)
    assert [NO_LABELS] == metrics.notes


def test_classes_without_test_images_are_named():
    images = manifest()
    without = images.where(images.frame["label"] != "owl")
    panel = Panel("challenger", CLASSES, OURS.probabilities[np.arange(30) % 3 != 2])
    assert "no labelled test image of: owl" in figures(without, panel).notes


def test_equal_seeds_give_equal_reports():
    assert figures(manifest(), OURS) == figures(manifest(), OURS)
