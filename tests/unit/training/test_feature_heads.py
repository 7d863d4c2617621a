"""Heads without gradients: what is solved on features is what the network's head answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_tasks import blobs
from sklearn.ensemble import RandomForestClassifier

from pipeline.models.heads import SMALLEST
from pipeline.training.classifiers import forest, margins, neighbours, prototypes
from pipeline.training.classifiers.linear_probe import Scaler
from pipeline.training.classifiers.neighbours import Votes
from pipeline.training.task import Labelled


def shares_of(head: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.softmax(head(torch.from_numpy(features)), dim=1).numpy()


# -- random forest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 6, None])
def test_a_forest_head_is_scikit_learns_forest(depth):
    """The same class shares to 1e-6, less what keeps the logarithm finite."""
    data, asked = blobs(90, spread=2.5), blobs(200, spread=3, seed=1)
    model = RandomForestClassifier(20, max_depth=depth, random_state=0).fit(data.features, data.labels)
    head = forest.head_of(model, 3)
    with torch.no_grad():
        found = torch.exp(head(torch.from_numpy(asked.features))).numpy() - SMALLEST
    np.testing.assert_allclose(model.predict_proba(asked.features), found, atol=1e-6)


def test_features_at_a_threshold_fall_to_scikit_learns_side():
    """Thresholds lie half-way between two float32 numbers that are neighbours: rounding up would swap the sides."""
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    features = np.array([[low], [high]] * 10, np.float32)
    model = RandomForestClassifier(5, bootstrap=False, random_state=0).fit(features, [0, 1] * 10)
    np.testing.assert_allclose(model.predict_proba(features), shares_of(forest.head_of(model, 2), features), atol=1e-5)


def test_a_class_that_the_forest_has_not_seen_is_never_answered():
    data = blobs(60)
    model = RandomForestClassifier(5, random_state=0).fit(data.features, 2 * data.labels)
    shares = shares_of(forest.head_of(model, 5), data.features)
    assert shares[:, [1, 3]].max() < 1e-5


def test_leaves_are_bounded_by_megabytes():
    """Trees of that many leaves fit, whatever the classes; two leaves are the least."""
    leaves = forest.most_leaves(100, 10, 4.0)
    assert 100 * (2 * leaves - 1) * (28 + 40) <= 4e6
    assert 2 == forest.most_leaves(1000, 1000, 0.01)


# -- nearest neighbours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [Votes(1, 0.1), Votes(7, 0.05), Votes(500, 0.2)])
def test_votes_are_what_the_head_answers(setting):
    """What is chosen by is what is shipped, also where k is more than there are."""
    data, asked = blobs(40), blobs(30, seed=1)
    logits = next(neighbours.votes_path(data, asked.features, [setting], 3))
    shares = shares_of(neighbours.head_of(data, setting, 3), asked.features)
    np.testing.assert_allclose(np.exp(logits), shares, atol=1e-5)


def test_one_neighbour_is_the_nearest_by_cosine():
    data, asked = blobs(40), blobs(30, seed=1)
    centre = data.features.mean(0)
    cosines = neighbours.normalised(asked.features, centre) @ neighbours.normalised(data.features, centre).T
    logits = next(neighbours.votes_path(data, asked.features, [Votes(1, 0.1)], 3))
    assert data.labels[cosines.argmax(1)].tolist() == logits.argmax(1).tolist()


def test_exemplars_are_drawn_evenly_from_the_classes():
    """A class of four keeps its four; the others share what is left."""
    labels = np.array([0] * 100 + [1] * 100 + [2] * 4)
    kept = neighbours.exemplars(Labelled(np.arange(204, dtype=np.float32)[:, None], labels), 44, seed=0)
    assert [20, 20, 4] == np.bincount(kept.labels).tolist()
    assert sorted(kept.features[:, 0]) == kept.features[:, 0].tolist()


# -- class means -------------------------------------------------------------------------------------------------------


def test_class_means_are_what_the_head_answers():
    data, asked = blobs(12), blobs(30, seed=1)
    centre = data.features.mean(0)
    logits = prototypes.cosines(data, asked.features, centre, 3) / 0.1
    with torch.no_grad():
        found = prototypes.head_of(data, centre, 0.1, 3)(torch.from_numpy(asked.features)).numpy()
    np.testing.assert_allclose(logits, found, atol=1e-4)
    assert (logits.argmax(1) == asked.labels).mean() > 0.9


def test_a_class_without_an_image_is_never_the_nearest_mean():
    """Not even for images that are far from all means."""
    data = blobs(12)
    away = np.random.default_rng(0).normal(0, 9, (500, 8)).astype(np.float32)
    cosines = prototypes.cosines(Labelled(data.features, data.labels * 2), away, data.features.mean(0), 6)
    assert {0, 2, 4} == set(cosines.argmax(1))


def test_episodes_are_seeded_and_their_interval_shrinks():
    """More episodes, a smaller interval; equal seeds, equal figures; more shots, more right."""
    data = blobs(120, spread=4.0)
    options = {"ways": 3, "queries": 15, "seed": 0}
    few, many, again = (
        prototypes.episodes(data, data.features.mean(0), shots=1, count=count, **options) for count in (20, 200, 200)
    )
    assert many == again
    assert many.half_width < few.half_width
    assert many.accuracy < prototypes.episodes(data, data.features.mean(0), shots=10, count=200, **options).accuracy
    assert f"With 1 image(s) of each of 3 classes, 200 episodes gave {many.accuracy:.1%}" in many.told


def test_episodes_need_an_image_to_answer():
    """One image per class is enough to learn from and leaves none to ask about."""
    data = blobs(3)
    assert prototypes.episodes(data, np.zeros(8), ways=5, shots=1, queries=5, count=9, seed=0) is None


# -- support vector machine --------------------------------------------------------------------------------------------


def test_the_machine_finds_the_minimum_of_its_objective():
    """scipy, minimising the written formula, finds the same logits, less their mean over classes."""
    from scipy.optimize import minimize

    data, penalty = blobs(45, spread=2.0), 0.5
    scaler = Scaler.of(data.features)
    rows, signs = scaler(data.features), np.where(data.labels[:, None] == np.arange(3), 1.0, -1.0)

    def value(flat: np.ndarray) -> float:
        weight, bias = flat[:24].reshape(3, 8), flat[24:]
        hinge = np.maximum(0, 1 - signs * (rows @ weight.T + bias))
        return (hinge**2).sum(1).mean() + penalty / 2 * ((weight**2).sum() + (bias**2).sum())

    best = minimize(value, np.zeros(27), method="BFGS").x
    expected = rows @ best[:24].reshape(3, 8).T + best[24:]
    head = next(margins.svm_path(data, [penalty], 3))
    np.testing.assert_allclose(expected - expected.mean(axis=1, keepdims=True), head.logits(data.features), atol=1e-2)


def test_votes_take_memory_for_the_answers_alone():
    """One number per image and class, not one per neighbour besides; and the same logits to the last bit."""
    import tracemalloc

    data, asked, classes = blobs(400), blobs(300, seed=1), 200
    votes = neighbours.votes_path(data, asked.features, [Votes(200, 0.1)], classes)
    tracemalloc.start()
    logits = next(votes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 200 * classes
    assert (300, classes) == logits.shape
