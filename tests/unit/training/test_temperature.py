"""The temperature against a search over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.classifiers.linear_probe import cross_entropy
from pipeline.training.classifiers.temperature import fit_temperature


def noisy(count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    logits = random.normal(size=(count, 4))
    draws = np.array([random.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    return scale * logits, draws


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_it_finds_the_lowest_cross_entropy_at_any_scale(scale):
    """Labels drawn from softmax(logits): the temperature is their scale, and no other on a fine grid is better."""
    logits, labels = noisy(2000, scale)
    temperature = fit_temperature(logits, labels)
    assert scale == pytest.approx(temperature, rel=0.1)
    grid = np.geomspace(scale / 3, scale * 3, 400)
    best = min(cross_entropy(logits / other, labels) for other in grid)
    assert best == pytest.approx(cross_entropy(logits / temperature, labels), abs=1e-5)


def test_images_that_are_all_right_ask_for_finite_confidence():
    """With ten of ten right the likelihood alone has no maximum; one image in eleven counts as unsure."""
    logits = np.eye(3)[np.arange(10) % 3]
    temperature = fit_temperature(logits, np.arange(10) % 3)
    shares = np.exp(logits / temperature)
    right = (shares / shares.sum(axis=1, keepdims=True)).max()
    assert 1 - 1 / 11 + 1 / 33 == pytest.approx(right, abs=1e-6)


def test_logits_that_are_worse_than_chance_are_flattened():
    """No temperature can turn them round; the largest comes nearest to saying nothing."""
    logits = 5 * np.eye(3)[np.arange(30) % 3]
    temperature = fit_temperature(logits, (np.arange(30) + 1) % 3)
    assert 1e3 < temperature < np.inf


def test_equal_logits_keep_their_scale():
    assert 1.0 == fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0]))


def test_a_class_that_cannot_be_answered_has_no_part():
    """A column of −inf changes nothing."""
    logits, labels = noisy(500, 2.0)
    barred = np.concatenate([logits, np.full((500, 1), -np.inf)], axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(fit_temperature(barred, labels))
