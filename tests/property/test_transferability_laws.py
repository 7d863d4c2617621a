"""Laws of LogME and H-score, whatever the features are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.transferability import h_score, logme

SCORES = pytest.mark.parametrize("score", [logme, h_score])


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Two to four classes, 12 to 40 images, 2 to 50 features, some of them copies of one another."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    images, dimensions = draw(st.integers(12, 40)), draw(st.integers(2, 50))
    labels = np.arange(images) % draw(st.integers(2, 4))
    features = rng.normal(draw(st.floats(-2, 2)), draw(st.floats(0.1, 5)), (images, dimensions))
    features[:, 0] += draw(st.floats(0, 3)) * labels
    if draw(st.booleans()):
        features[:, -1] = features[:, 0]
    return features, labels, rng


@SCORES
@given(problems())
@settings(max_examples=40, deadline=None)
def test_rotating_the_features_changes_nothing(score, problem):
    features, labels, rng = problem
    rotation, _ = np.linalg.qr(rng.normal(size=(features.shape[1],) * 2))
    assert pytest.approx(score(features, labels), rel=1e-6, abs=1e-8) == score(features @ rotation, labels)


@SCORES
@given(problems())
@settings(max_examples=40, deadline=None)
def test_the_order_of_images_and_the_names_of_classes_change_nothing(score, problem):
    features, labels, rng = problem
    order, names = rng.permutation(len(labels)), rng.permutation(labels.max() + 1)
    assert pytest.approx(score(features, labels), rel=1e-6, abs=1e-8) == score(features[order], names[labels][order])


@SCORES
@given(problems())
@settings(max_examples=40, deadline=None)
def test_features_that_tell_the_classes_apart_score_higher(score, problem):
    """Moving every class along a direction of its own, by ten deviations, is never for the worse."""
    features, labels, _ = problem
    noise = features - features.mean(axis=0)
    own = np.concatenate([noise, np.zeros((len(labels), labels.max() + 1))], axis=1)
    own[np.arange(len(labels)), features.shape[1] + labels] = 10 * noise.std()
    without = np.concatenate([noise, np.zeros((len(labels), labels.max() + 1))], axis=1)
    assert score(own, labels) > score(without, labels)


@given(problems())
@settings(max_examples=40, deadline=None)
def test_h_score_lies_between_zero_and_one_less_than_the_classes(problem):
    features, labels, _ = problem
    assert -1e-9 <= h_score(features, labels) <= labels.max() + 1e-9
