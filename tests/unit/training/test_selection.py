"""Choosing a setting on held-out images."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.classifiers.folds import Fold
from pipeline.training.classifiers.selection import choose
from pipeline.training.task import Labelled


def fold(labels: list[int], fitted: tuple[int, ...] = (0, 1, 2)) -> Fold:
    held_out = np.array(labels)
    return Fold(
        Labelled(np.zeros((len(fitted), 1)), np.array(fitted)), Labelled(np.zeros((len(held_out), 1)), held_out)
    )


def logits_of(labels: list[int], share_right: float) -> np.ndarray:
    """One-hot logits that name the next class for the last images."""
    answered = np.array(labels)
    answered[round(share_right * len(labels)) :] += 1
    return np.eye(3)[answered % 3]


def test_the_setting_with_the_lowest_cross_entropy_is_taken():
    """Its accuracy, temperature and place on the path come with it."""
    labels = [0, 1, 2] * 10
    answers = [iter([logits_of(labels, share) for share in (0.5, 0.9, 0.6)])]
    choice = choose([fold(labels)], [1, 2, 3], answers, selection="validation split", what="test")
    assert (2, 0.9, "validation split") == (choice.setting, pytest.approx(0.9), choice.selection)
    assert choice.is_inside
    assert choice.temperature < 1


def test_folds_are_judged_together():
    """The temperature is one for all folds, and accuracy is over all held-out images."""
    small, large = [0, 1], [0, 1, 2] * 6
    answers = [iter([logits_of(small, 0.0)]), iter([logits_of(large, 1.0)])]
    choice = choose([fold(small), fold(large)], [None], answers, selection="", what="test")
    assert 18 / 20 == pytest.approx(choice.accuracy)


def test_an_image_of_a_class_that_was_not_fitted_is_a_miss():
    """It counts against the accuracy, and its class's logit is not looked at."""
    labels = [0, 1, 0, 1, 2]
    given = np.eye(3)[labels] + [0, 0, 9]
    choice = choose([fold(labels, (0, 1))], [None], [iter([given])], selection="", what="test")
    assert 4 / 5 == pytest.approx(choice.accuracy)


def test_patience_leaves_out_the_rest():
    """What is not asked for is not computed."""
    labels, asked = [0, 1, 2] * 5, []

    def answers():
        for number, share in enumerate((0.9, 0.5, 0.4, 1.0)):
            asked.append(number)
            yield logits_of(labels, share)

    options = {"selection": "", "what": "test", "patience": 2}
    assert 0 == choose([fold(labels)], [0, 1, 2, 3], [answers()], **options).setting
    assert [0, 1, 2] == asked


def test_uncalibrated_logits_stay_as_they_are():
    labels = [0, 1, 2]
    choice = choose([fold(labels)], [0], [iter([np.eye(3)])], selection="", what="test", calibrate=False)
    assert 1.0 == choice.temperature
