"""Laws of the distances between domains, whatever the features are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation import distances
from pipeline.evaluation.domains import compare

SMOOTH = {"coral": distances.coral, "frechet": distances.frechet, "mmd": distances.mmd}
ALL = SMOOTH | {"proxy_a_distance": distances.proxy_a_distance}

SEEDS = st.integers(0, 10_000)


def pair(seed: int, images: int = 60, dimensions: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of different, correlated normal distributions."""
    random = np.random.default_rng(seed)
    mixes = random.normal(size=(2, dimensions, dimensions))
    source, target = (random.normal(size=(images, dimensions)) @ mix for mix in mixes)
    return source, target + random.normal(size=dimensions)


def rotation(seed: int, dimensions: int = 4) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))[0]


@pytest.mark.parametrize("name", ALL)
@given(SEEDS)
@settings(max_examples=20)
def test_distances_are_symmetric(name, seed):
    source, target = pair(seed)
    assert ALL[name](source, target) == pytest.approx(ALL[name](target, source), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ALL)
@given(SEEDS)
@settings(max_examples=20)
def test_a_rotation_and_a_shift_of_both_domains_change_nothing(name, seed):
    """The axes of a feature space mean nothing."""
    source, target = pair(seed)
    turned = [side @ rotation(seed + 1) + 3 for side in (source, target)]
    assert ALL[name](source, target) == pytest.approx(ALL[name](*turned), rel=1e-3, abs=1e-4)


@given(SEEDS)
@settings(max_examples=20)
def test_coral_and_frechet_of_a_sample_to_itself_are_zero(seed):
    source, _ = pair(seed)
    assert 0 == pytest.approx(distances.coral(source, source))
    assert 0 == pytest.approx(distances.frechet(source, source), abs=1e-6 * np.square(source).sum())


@pytest.mark.parametrize("name", ["frechet", "mmd"])
@given(SEEDS)
@settings(max_examples=20)
def test_distances_grow_with_a_shift_of_the_mean(name, seed):
    source, _ = pair(seed)
    other, direction = np.random.default_rng(seed).permutation(source)[::2], rotation(seed)[0] * source.std()
    rest = source[1::2]
    found = [SMOOTH[name](other, rest + step * direction) for step in (2, 4, 8)]
    assert sorted(found) == found


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_two_halves_of_one_domain_lie_within_the_null_level(seed):
    """Whatever the shape of the domain: the MMD calls them near. (PAD and the others may stray once in a while.)"""
    rows, _ = pair(seed, images=200)
    report = compare(rows[:100], rows[100:], seed=seed, draws=20, map_images=0)
    assert "near" == report.nearness


@given(SEEDS, st.floats(1e-3, 1e3))
@settings(max_examples=5, deadline=None)
def test_the_unit_of_the_features_does_not_matter(seed, unit):
    """A backbone whose features are a thousand times larger is not a thousand times farther from home."""
    source, target = pair(seed)
    reports = [compare(k * source, k * target, seed=0, draws=20, map_images=0) for k in (1.0, unit)]
    for one, other in zip(*(report.distances for report in reports), strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-4)
