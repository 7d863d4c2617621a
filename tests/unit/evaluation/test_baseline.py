"""The class-mean baseline against scikit-learn's nearest neighbour among the means."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from pipeline.evaluation.baseline import class_means, most_frequent


def test_equals_the_nearest_of_unit_means():
    """With unit-length means, nearest by cosine is nearest by distance."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 16))
    labels = random.integers(0, 4, 60)
    features = centres[labels] + random.normal(scale=0.7, size=(60, 16))
    queries = centres[random.integers(0, 4, 200)] + random.normal(scale=0.7, size=(200, 16))
    rows = normalize(features - features.mean(0))
    means = normalize(np.stack([rows[labels == number].mean(0) for number in range(4)]))
    reference = KNeighborsClassifier(1).fit(means, range(4)).predict(normalize(queries - features.mean(0)))
    np.testing.assert_array_equal(reference, class_means(features, labels, queries))


def test_classes_without_a_labelled_image_are_never_answered():
    said = class_means(np.eye(3)[[0, 1]], np.array([0, 5]), np.eye(3))
    assert {0, 5} >= set(said.tolist())


def test_half_precision_features_are_enough():
    """The feature table may be float16."""
    features = np.array([[1, 0], [0, 1]], dtype=np.float16)
    assert [1, 0] == class_means(features, np.array([0, 1]), features[::-1]).tolist()


def test_the_most_frequent_class_is_the_lowest_number_among_equals():
    assert 1 == most_frequent(np.array([2, 1, 1, 2, 0]))
