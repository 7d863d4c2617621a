"""From scikit-learn's random forest to the tensors of a :class:`~pipeline.models.heads.ForestHead`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.models.heads import ForestHead
from pipeline.training.classifiers.heads import tensors

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

BYTES_PER_NODE = 28
"""One float32 threshold and three int64 numbers."""


def most_leaves(trees: int, classes: int, size_mb: float) -> int:
    """Leaves per tree, at least two, so that the head takes ``size_mb`` at most; a tree has fewer inner nodes."""
    return max(2, int(size_mb * 1e6 / (trees * 2 * (BYTES_PER_NODE + 4 * classes))))


def head_of(forest: RandomForestClassifier, classes: int) -> ForestHead:
    """The same trees as tensors; classes that the forest has not seen have a share of zero."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    size = max(tree.node_count for tree in trees)
    known = forest.classes_.astype(np.int64)
    feature, below, above = (np.zeros((len(trees), size), dtype=np.int64) for _ in range(3))
    threshold, leaves = np.zeros((len(trees), size), np.float32), np.zeros((len(trees), size, classes), np.float32)
    for number, tree in enumerate(trees):
        nodes = np.arange(tree.node_count)
        is_leaf = tree.children_left < 0
        here = number, slice(tree.node_count)
        feature[here] = np.where(is_leaf, 0, tree.feature)
        threshold[here] = np.where(is_leaf, 0, rounded_down(tree.threshold))
        below[here] = np.where(is_leaf, nodes, tree.children_left)
        above[here] = np.where(is_leaf, nodes, tree.children_right)
        shares = tree.value[:, 0, :]
        leaves[number, : tree.node_count, known] = (shares / shares.sum(axis=1, keepdims=True)).T
    depth = max(1, *(tree.max_depth for tree in trees))
    values = {"feature": feature, "threshold": threshold, "below": below, "above": above, "leaves": leaves}
    return ForestHead(**tensors(**values, depth=depth))


def rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 numbers not above the float64 ``thresholds``.

    scikit-learn compares float32 features with float64 thresholds. x ≤ t and x ≤ rounded_down(t) say the same of every
    float32 x; rounding to the nearest would send some x between the two the other way.
    """
    nearest = thresholds.astype(np.float32)
    lower = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > thresholds, lower, nearest)
