"""Laws of what is solved on cached features, whatever the features are."""

from __future__ import annotations

import numpy as np
import pytest
from feature_tasks import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from pipeline.training.classifiers import forest, moments
from pipeline.training.classifiers.closed_form import Sums, lda_path, ridge_path
from pipeline.training.classifiers.federation import merged, parts_of
from pipeline.training.classifiers.linear_probe import cross_entropy
from pipeline.training.classifiers.temperature import fit_temperature
from pipeline.training.task import Labelled

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=20, deadline=None)


def pair(seed: int, images: int = 60, dimensions: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of different, correlated normal distributions."""
    random = np.random.default_rng(seed)
    mixes = random.normal(size=(2, dimensions, dimensions))
    source, target = (random.normal(size=(images, dimensions)) @ mix for mix in mixes)
    return source, target + random.normal(size=dimensions)


@given(SEEDS, st.integers(1, 6))
@FEW
def test_however_images_lie_among_sites_the_solution_is_the_central_one(seed, sites):
    """Federated ridge and LDA equal the central ones to 1e-6 at equal settings, for any number of sites."""
    data = blobs(50, spread=2.0, seed=seed)
    parts = parts_of(data, np.random.default_rng(seed).integers(0, sites, 50))
    apart, together = merged(parts, [], 3, 1), Sums.of(data, 3)
    for path, path_settings in ((ridge_path, [10.0, 1e-3]), (lda_path, [1.0, 1e-2])):
        for ours, central in zip(path(apart, path_settings), path(together, path_settings), strict=True):
            np.testing.assert_allclose(central.weight, ours.weight, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(central.bias, ours.bias, rtol=1e-6, atol=1e-6)


@given(SEEDS, st.floats(1e-3, 1e3))
@FEW
def test_a_ridge_path_is_many_direct_solutions(seed, penalty):
    """Whatever else is on the path, each penalty's head is that of the normal equations."""
    data = blobs(40, spread=2.0, seed=seed)
    features = data.features.astype(np.float64)
    rows = (features - features.mean(0)) / features.std(0)
    truth = np.eye(3)[data.labels]
    weight = np.linalg.solve(rows.T @ rows / 40 + penalty * np.eye(8), rows.T @ (truth - truth.mean(0)) / 40)
    heads = list(ridge_path(Sums.of(data, 3), [1e4, penalty, 1e-4]))
    np.testing.assert_allclose(rows @ weight + truth.mean(0), heads[1].logits(data.features), atol=1e-4)


@given(SEEDS)
@FEW
def test_standardising_undoes_a_gain_and_an_offset_of_every_feature(seed):
    """A target that is the source stretched and moved, feature by feature: the moved source is the target."""
    random = np.random.default_rng(seed)
    source = random.normal(size=(40, 5)) @ random.normal(size=(5, 5))
    target = source * random.uniform(0.1, 10, 5) + random.normal(0, 10, 5)
    moved = moments.standardising(source, target).moved(source)
    np.testing.assert_allclose(target, moved, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", [moments.coral, moments.linear_ot])
@given(SEEDS)
@FEW
def test_maps_carry_the_sources_moments_onto_the_targets(function, seed):
    """Without the added diagonal the moved source has the target's mean and covariance."""
    source, target = pair(seed)
    moved = function(source, target, epsilon=1e-9).moved(source).astype(np.float64)
    scale = np.abs(np.cov(target.T)).max()
    np.testing.assert_allclose(target.mean(0), moved.mean(0), atol=1e-3)
    np.testing.assert_allclose(np.cov(target.T), np.cov(moved.T), atol=2e-3 * scale)


@given(SEEDS)
@FEW
def test_a_rotation_of_both_domains_rotates_optimal_transport(seed):
    """The axes of a feature space mean nothing to it."""
    source, target = pair(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    plain = moments.linear_ot(source, target).moved(source) @ turn
    turned = moments.linear_ot(source @ turn, target @ turn).moved(source @ turn)
    np.testing.assert_allclose(plain, turned, atol=1e-3)


@given(SEEDS, st.integers(1, 8), st.sampled_from([1.0, 1e-3, 1e4]))
@settings(max_examples=15, deadline=None)
def test_a_forest_as_tensors_is_the_forest(seed, depth, scale):
    """Class shares agree to 1e-6 on the images it was grown on, which lie nearest to the thresholds, and on others."""
    import torch

    random = np.random.default_rng(seed)
    features = (np.round(random.normal(size=(60, 4)), 1) * scale).astype(np.float32)
    model = RandomForestClassifier(5, max_depth=depth, random_state=seed).fit(features, np.arange(60) % 3)
    others = (random.normal(size=(60, 4)) * scale).astype(np.float32)
    both = np.concatenate([features, others])
    with torch.no_grad():
        found = torch.softmax(forest.head_of(model, 3)(torch.from_numpy(both)), 1).numpy()
    np.testing.assert_allclose(model.predict_proba(both), found, atol=4e-6)


@given(SEEDS, st.floats(1e-3, 1e3))
@FEW
def test_the_temperature_goes_with_the_logits_scale(seed, scale):
    """Logits times s have the temperature times s, and no answer and no probability changes."""
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(60, 3)), random.integers(0, 3, 60)
    logits[np.arange(60), labels] += 1
    plain, scaled = fit_temperature(logits, labels), fit_temperature(scale * logits, labels)
    assert scale * plain == pytest.approx(scaled, rel=1e-4)
    assert cross_entropy(logits / plain, labels) <= cross_entropy(logits, labels) + 1 / 60


@given(SEEDS)
@FEW
def test_sums_of_parts_are_the_sums_of_all(seed):
    data = blobs(30, seed=seed)
    first, second = (Labelled(data.features[part], data.labels[part]) for part in (slice(0, 11), slice(11, 30)))
    added, whole = Sums.of(first, 3) + Sums.of(second, 3), Sums.of(data, 3)
    np.testing.assert_allclose(whole.products, added.products)
    assert whole.counts.tolist() == added.counts.tolist()
