"""LogME and H-score against the quantities they stand for, computed another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from pipeline.evaluation.transferability import h_score, logme

SHAPES = [(30, 5), (60, 10), (12, 12), (20, 50)]


def blobs(images: int, dimensions: int, distance: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, each shifted along an axis of its own; the features' mean is not 0."""
    labels = np.arange(images) % 3
    features = np.random.default_rng(dimensions).normal(0.5, 1, (images, dimensions))
    features[:, :3] += distance * np.eye(3)[labels]
    return features, labels


def best_evidence(features: np.ndarray, target: np.ndarray) -> float:
    """max over α, β of log N(target; 0, FFᵀ/α + I/β) / n, found by search: the marginal likelihood itself."""
    gram, images = features @ features.T, len(target)

    def negative(logs: np.ndarray) -> float:
        covariance = gram / np.exp(logs[0]) + np.eye(images) / np.exp(logs[1])
        _, log_determinant = np.linalg.slogdet(covariance)
        return (log_determinant + target @ np.linalg.solve(covariance, target) + images * np.log(2 * np.pi)) / 2

    starts = [(alpha, beta) for alpha in (-2.0, 2.0, 6.0) for beta in (0.0, 3.0)]
    bounds = [(-15.0, 20.0)] * 2
    return max(-minimize(negative, start, method="L-BFGS-B", bounds=bounds).fun for start in starts) / images


@pytest.mark.parametrize(("images", "dimensions"), SHAPES)
@pytest.mark.parametrize("distance", [0.3, 4.0])
def test_logme_is_the_largest_evidence(images: int, dimensions: int, distance: float) -> None:
    """A search over α and β finds no higher marginal likelihood, with more features than images or fewer."""
    features, labels = blobs(images, dimensions, distance)
    expected = np.mean([best_evidence(features, (labels == label).astype(float)) for label in range(3)])
    assert pytest.approx(expected, abs=1e-4) == logme(features, labels)


@pytest.mark.parametrize(("images", "dimensions"), SHAPES)
def test_h_score_is_its_formula(images: int, dimensions: int) -> None:
    """(1 − a) · tr(C_a⁻¹ · cov E[f|y]) with scikit-learn's shrunk covariance."""
    from sklearn.covariance import ledoit_wolf

    features, labels = blobs(images, dimensions)
    covariance, share = ledoit_wolf(features)
    centred = features - features.mean(axis=0)
    means = np.stack([centred[labels == label].mean(axis=0) for label in range(3)])
    between = (means.T * (np.bincount(labels) / images)) @ means
    expected = (1 - share) * np.trace(np.linalg.solve(covariance, between))
    assert pytest.approx(expected, rel=1e-9) == h_score(features, labels)


@pytest.mark.parametrize("score", [logme, h_score])
def test_classes_that_do_not_occur_do_not_matter(score) -> None:
    """Class numbers are names: 0, 1, 2 and 3, 7, 9 score alike."""
    features, labels = blobs(40, 6)
    assert score(features, labels) == score(features, np.array([3, 7, 9])[labels])


def test_perfectly_told_and_constant_features_give_finite_scores() -> None:
    """No division by a residual or a variance of 0."""
    labels = np.arange(12) % 3
    perfect, constant = np.eye(3)[labels], np.ones((12, 4))
    assert all(np.isfinite([logme(perfect, labels), logme(constant, labels), h_score(perfect, labels)]))
    assert h_score(constant, labels) == 0
    assert logme(perfect, labels) > logme(constant, labels)


def test_features_are_read_as_float64() -> None:
    """float16 and float32 from the cache are scored as what they say, and left as they were."""
    features, labels = blobs(50, 8)
    half = features.astype(np.float16)
    kept = half.copy()
    assert logme(half, labels) == logme(half.astype(np.float64), labels)
    assert h_score(half, labels) == h_score(half.astype(np.float64), labels)
    assert (kept == half).all()
