"""Labels in doubt: the formula is that of real refits, flipped labels are found, sound ones are hardly named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from feature_tasks import CLASSES, blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.manifest import Manifest
from pipeline.evaluation import suspects
from pipeline.evaluation.report import LabelReview


def manifest_of(labels: np.ndarray, split: str | list[str] = "train") -> Manifest:
    names = [f"{number:05d}" for number in range(len(labels))]
    label = [CLASSES[number] if number >= 0 else None for number in labels]
    return Manifest.of(pd.DataFrame({"id": names, "name": names, "label": label, "split": split, "domain": "target"}))


def reviewed(features: np.ndarray, labels: np.ndarray, split: str | list[str] = "train", **options) -> LabelReview:
    found = suspects.review(manifest_of(labels, split), features, CLASSES, **({"at_most": 10_000} | options))
    assert found is not None
    return found


def flipped(labels: np.ndarray, label: int, share: float, seed: int = 0) -> np.ndarray:
    """Rows of one class of which so many are to be given another label, drawn by lot."""
    rows = np.flatnonzero(labels == label)
    return np.random.default_rng(seed).choice(rows, round(share * len(rows)), replace=False)


@settings(deadline=None, max_examples=25)
@given(st.integers(6, 40), st.integers(1, 60), st.integers(2, 4), st.integers(0, 1000))
def test_answers_to_left_out_images_are_those_of_real_refits(count, dimensions, classes, seed):
    """One fit and its hat matrix against as many fits as there are images, whichever side is the longer."""
    random = np.random.default_rng(seed)
    features, labels = random.normal(size=(count, dimensions)), random.integers(0, classes, count)
    scaled, truth = suspects._standardised(features), np.eye(classes)[labels]

    def refitted(penalty: float) -> np.ndarray:
        answers = []
        for row in range(count):
            rest = np.arange(count) != row
            centre, share = scaled[rest].mean(0), truth[rest].mean(0)
            inner = (scaled[rest] - centre).T @ (scaled[rest] - centre) + penalty * count * np.eye(dimensions)
            weight = np.linalg.solve(inner, (scaled[rest] - centre).T @ (truth[rest] - share))
            answers.append(share + (scaled[row] - centre) @ weight)
        return np.array(answers)

    by_penalty = [refitted(penalty) for penalty in suspects.PENALTIES[:7]]  # weaker ones are singular here and there
    best = min(by_penalty, key=lambda answers: np.square(truth - answers).mean())
    kept = np.clip(best, 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspects, "PENALTIES", suspects.PENALTIES[:7])
        found = suspects.left_out(features, labels, classes)
    assert np.allclose(kept / kept.sum(1, keepdims=True), found, atol=1e-6)


@pytest.mark.parametrize("count", [150, 600])
@pytest.mark.parametrize("label", range(3))
def test_a_fifth_of_one_class_flipped_is_found(count, label):
    """At least 60 % of what was flipped is named, at least 80 % of what is named was flipped, the true class beside."""
    features, labels = blobs(count, spread=1.0)
    rows = flipped(labels, label, 0.2)
    given = labels.copy()
    given[rows] = (labels[rows] + 1 + np.arange(len(rows)) % 2) % 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspects, "NAMED", count)
        found = reviewed(features, given)
    named = {int(suspect.name): suspect for suspect in found.named}
    hits = set(named) & set(rows.tolist())
    assert found.suspects == len(named)
    assert len(hits) >= 0.6 * len(rows)
    assert len(hits) >= 0.8 * len(named)
    assert {CLASSES[label]} == {named[row].likelier for row in hits}
    assert all(named[row].given == CLASSES[given[row]] for row in named)


@pytest.mark.parametrize("count", [60, 600])
def test_sound_labels_are_hardly_doubted(count):
    """With nothing flipped at most 2 % are named."""
    assert reviewed(*blobs(count, spread=1.0)).suspects <= 0.02 * count


def test_the_surest_come_first_and_the_list_has_an_end():
    """All are counted, 24 are named; every time the same."""
    features, labels = blobs(900, spread=1.0)
    given = labels.copy()
    given[flipped(labels, 0, 0.4)] = 1

    found = reviewed(features, given)
    assert found.suspects > len(found.named) == suspects.NAMED
    probabilities = suspects.left_out(features, given, 3)
    margins = [
        probabilities[int(one.name), CLASSES.index(one.likelier)]
        - probabilities[int(one.name), CLASSES.index(one.given)]
        for one in found.named
    ]
    assert sorted(margins, reverse=True) == margins
    assert found == reviewed(features, given)


def test_labels_of_the_test_split_and_missing_ones_take_no_part():
    """They are neither judged nor used to judge by."""
    features, labels = blobs(200)
    split = ["test" if number >= 150 else "val" if number >= 120 else "train" for number in range(200)]
    labels[100:110] = -1
    spoilt = features.copy()
    spoilt[150:] = 1e6
    spoilt[100:110] = -1e6

    assert 140 == reviewed(features, labels, split).images
    assert reviewed(features, labels, split) == reviewed(spoilt, labels, split)


def test_a_class_of_few_is_not_judged():
    """Eight images tell too little of a ninth; the class is named, its labels are not doubted."""
    features, labels = blobs(100)
    rows = np.flatnonzero(labels == 2)
    labels[rows[9:]] = -1
    features[rows[:9]] = features[labels == 0].mean(0)  # by their features they are all of the other class

    found = reviewed(features, labels)
    assert [CLASSES[2]] == found.unjudged
    assert CLASSES[2] not in {suspect.given for suspect in found.named}


def test_too_few_labels_say_nothing():
    """Without two classes of ten images there is no review; nor is there one where it is turned off."""
    features, labels = blobs(27)
    assert suspects.review(manifest_of(labels), features, CLASSES, at_most=100) is None
    features, labels = blobs(60)
    assert suspects.review(manifest_of(labels), features, CLASSES, at_most=0) is None


def test_no_more_images_than_asked_for():
    """Which ones is decided by the images, not by their order in the manifest."""
    features, labels = blobs(300)
    assert 100 == reviewed(features, labels, at_most=100).images


def test_equal_images_with_two_labels_are_no_numbers_gone_wrong():
    """Constant features leave nothing to divide by; the answer is the shares of the classes."""
    labels = np.arange(40) % 2
    found = suspects.left_out(np.ones((40, 8), np.float32), labels, 2)
    assert np.isfinite(found).all()
    assert np.allclose(1, found.sum(1))


def test_a_classifier_near_chance_doubts_nothing():
    """Features that tell nothing of the classes speak against half of the labels; none is named, and it is said why."""
    _, labels = blobs(300)
    features = np.random.default_rng(3).normal(size=(300, 8)).astype(np.float32)

    found = reviewed(features, labels)
    assert (False, 0, []) == (found.trusted, found.suspects, found.named)
    assert found.accuracy < 0.5
    probabilities = suspects.left_out(features, labels, len(CLASSES))
    assert len(suspects.in_doubt(probabilities, labels).rows) > 30, "they would have been many"


def test_many_wrong_labels_do_not_silence_it():
    """A quarter of all labels exchanged brings agreement down, and is told all the same."""
    features, labels = blobs(300)
    given = labels.copy()
    wrong = np.random.default_rng(5).choice(300, 75, replace=False)
    given[wrong] = (given[wrong] + 1) % len(CLASSES)

    found = reviewed(features, given)
    assert found.trusted
    assert found.suspects > 50


def test_rare_classes_that_it_misses_do_not_silence_a_good_judge():
    """Two large classes, and a dozen images of a third that look like the first: what was flipped is found."""
    features, labels = blobs(600)
    keep = np.flatnonzero((labels < 2) | (np.cumsum(labels == 2) <= 12))
    features, labels = features[keep], labels[keep]
    features[labels == 2] = features[labels == 0][:12]
    given, wrong = labels.copy(), flipped(labels, 0, 0.1)
    given[wrong] = 1

    found = reviewed(features, given)
    assert found.trusted
    assert found.suspects >= 0.6 * len(wrong)


def test_a_judge_that_always_names_the_commonest_class_is_not_trusted():
    """It agrees with nine labels in ten, whatever the images are."""
    labels = np.array([0] * 180 + [1] * 20)
    found = reviewed(np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32), labels)
    assert found.accuracy > 0.85
    assert (False, 0) == (found.trusted, found.suspects)
