"""Labels on a graph."""

from __future__ import annotations

import numpy as np
import pytest
from feature_tasks import blobs, feature_task

from pipeline.training.classifiers.folds import take
from pipeline.training.classifiers.propagation import POWER, Propagated, balanced, propagate
from pipeline.training.strategies import label_propagation
from pipeline.training.task import Labelled


def test_the_iteration_ends_at_the_closed_form():
    """F = (1 − α)(I − αS)⁻¹Y with the graph written out densely, each class scaled to its share of the labels."""
    data = blobs(40, spread=2.0)
    known = np.array([0, 1, 2, 3, 4, 6, 9, 12, 15])
    labelled, rest = take(data, known), data.features[np.setdiff1d(np.arange(40), known)]
    counts = np.bincount(labelled.labels)
    assert counts.tolist() == [6, 2, 1]
    found = propagate(labelled, rest, 3, neighbours=5, alpha=0.8)
    rows = np.concatenate([labelled.features, rest])
    rows = rows - rows.mean(0)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (rows @ rows.T).astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    near = np.argsort(-cosines, axis=1)[:, :5]
    graph = np.zeros((40, 40))
    np.put_along_axis(graph, near, np.clip(np.take_along_axis(cosines, near, 1), 0, None) ** POWER, 1)
    graph = np.maximum(graph, graph.T)
    degree = graph.sum(1)
    normal = graph / np.sqrt(np.outer(degree, degree))
    start = np.zeros((40, 3))
    start[np.arange(9), labelled.labels] = 1 / counts[labelled.labels]
    expected = np.linalg.solve(np.eye(40) - 0.8 * normal, 0.2 * start)[9:]
    expected = expected * (counts / 9) / expected.sum(0)
    np.testing.assert_allclose(expected / expected.sum(1, keepdims=True), found.shares, atol=1e-4)


def test_weights_give_each_class_its_share_of_the_labels():
    """Twice as many images lie near the first label as near the second, and both classes weigh as much."""
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(0, 1.5, (80, 4)), random.normal(1, 1.5, (40, 4))]).astype(np.float32)
    labelled = Labelled(np.array([[0.0] * 4, [1.0] * 4], dtype=np.float32), np.array([0, 1]))
    found = propagate(labelled, rows, 2, neighbours=20, alpha=0.9)
    certainty = np.concatenate([np.ones(2), found.certainty])
    labels = np.concatenate([labelled.labels, found.labels])
    weights = balanced(certainty, labels, 2)
    np.testing.assert_allclose(1, weights.mean())
    np.testing.assert_allclose(weights[labels == 0].sum(), weights[labels == 1].sum())


def test_labels_follow_clusters():
    """One label per class reaches every image of well separated blobs."""
    data = blobs(90, spread=0.3)
    found = propagate(take(data, np.arange(3)), data.features[3:], 3, neighbours=5, alpha=0.9)
    assert data.labels[3:].tolist() == found.labels.tolist()
    assert found.certainty.min() > 0.5


def test_an_image_that_no_label_reaches_has_no_weight():
    """Shares of zero are no certainty, and even shares neither."""
    found = Propagated(np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 0.0]]))
    np.testing.assert_allclose([0, 0, 1], found.certainty, atol=1e-9)


def test_unlabelled_images_help_where_clusters_are_classes():
    """Six labels and 300 images without: more right on new ones than the labels alone, or as many."""
    task = feature_task(None, blobs(306, spread=1.6), labelled=6)
    fitted = label_propagation.fit(task, label_propagation.Params(), task.context)
    assert fitted.record.sentences[-1].startswith("Labels reached 300 of 300 unlabelled target images")
    assert 0 < fitted.record.chosen["mean_certainty"] < 1


def test_without_unlabelled_images_it_is_the_probe():
    from pipeline.training.strategies import probe

    task = feature_task(None, blobs(90))
    heads = [
        module.fit(task, module.Params(), task.context).network.head.weight for module in (label_propagation, probe)
    ]
    np.testing.assert_allclose(heads[0].detach(), heads[1].detach(), atol=1e-6)


def test_the_number_of_unlabelled_images_is_bounded():
    task = feature_task(None, blobs(120), labelled=30)
    record = label_propagation.fit(task, label_propagation.Params(max_images=20), task.context).record
    assert " of 20 unlabelled" in record.sentences[-1]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_is_a_share(alpha):
    with pytest.raises(ValueError):
        label_propagation.Params(alpha=alpha)
