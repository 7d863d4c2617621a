"""The four distances against formulas and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pipeline.evaluation import distances


def sample(seed: int, images: int = 200, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, (images, 5))


@pytest.mark.parametrize(("mean", "low", "high"), [(0.0, -0.4, 0.4), (1.0, 1.2, 1.9), (50.0, 2.0, 2.0)])
def test_proxy_a_distance_runs_from_chance_to_two(mean, low, high):
    """Samples of one distribution are told apart by luck only, distant ones without a fault."""
    assert low <= distances.proxy_a_distance(sample(0), sample(1, mean=mean)) <= high


def test_proxy_a_distance_counts_both_domains_alike():
    """A hundred times as many source images do not make "source" the right guess for every image."""
    assert abs(distances.proxy_a_distance(sample(0, images=4000), sample(1, images=40))) < 0.8


def test_frechet_of_normal_samples_is_the_wasserstein_distance():
    """Compared with a matrix square root of scipy's."""
    source, target = sample(0), sample(1, mean=0.5, spread=2)
    first, second = np.cov(source.T), np.cov(target.T)
    expected = np.square(source.mean(0) - target.mean(0)).sum() + np.trace(
        first + second - 2 * sqrtm(first @ second).real
    )
    assert expected == pytest.approx(distances.frechet(source, target))


def test_coral_sees_covariances_and_no_means():
    """A shift leaves it at zero; a doubled spread is the published formula."""
    source = sample(0)
    assert 0 == pytest.approx(distances.coral(source, source + 7))
    expected = np.square(3 * np.cov(source.T)).sum() / (4 * 5**2)
    assert expected == pytest.approx(distances.coral(source, 2 * source))


def test_mmd_is_the_published_sum_over_pairs():
    """Compared with loops over all pairs, each kernel by itself."""
    source, target = sample(0, images=6), sample(1, images=5, mean=1)
    rows = np.concatenate([source, target])
    squares = np.array([[((a - b) ** 2).sum() for b in rows] for a in rows])
    mean = squares.sum() / (11 * 10)
    expected = 0.0
    for k in (-2, -1, 0, 1, 2):
        kernel = np.exp(-squares / (mean * 2.0**k)) - np.eye(11)
        within = kernel[:6, :6].sum() / 30 + kernel[6:, 6:].sum() / 20
        expected += (within - 2 * kernel[:6, 6:].mean()) / 5
    assert expected == pytest.approx(distances.mmd(source, target), abs=1e-5)


def test_mmd_of_clouds_far_apart_ends_below_two():
    """Squared, and with widths that follow the distance: 2 less twice the mean kernel between two points."""
    assert 1.55 == pytest.approx(distances.mmd(sample(0), sample(1, mean=1e4)), abs=0.005)


def test_draws_share_one_kernel_matrix():
    """The MMD of a draw is that of its rows, up to the widths, which are those of all rows."""
    rows = sample(0, images=40)
    kernels = distances.kernel(rows)
    first, second = np.zeros((40, 2)), np.zeros((40, 2))
    first[:20, 0] = second[20:, 0] = first[20:, 1] = second[:20, 1] = 1
    forth, back = distances.mmd_of_draws(kernels, first, second)
    assert forth == pytest.approx(back, abs=1e-6)
    assert forth == pytest.approx(distances.mmd(rows[:20], rows[20:]), abs=1e-6)


@pytest.mark.parametrize("name", ["proxy_a_distance", "coral", "frechet", "mmd"])
def test_features_without_any_variance_are_no_distance_apart(name):
    """A dead backbone answers the same for every image."""
    assert 0 == getattr(distances, name)(np.ones((20, 3)), np.ones((20, 3)))
