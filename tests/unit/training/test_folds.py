"""What is fitted and what is held out, down to one image of a class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feature_tasks import blobs, feature_task

from pipeline.core.errors import DataError
from pipeline.data.manifest import Manifest
from pipeline.training.classifiers import folds
from pipeline.training.strategies import probe, svm
from pipeline.training.task import Labelled, Task


def with_labels(*labels: int) -> Task:
    """Target images of these classes, about each of which only its own features tell."""
    data = blobs(len(labels))
    return feature_task(None, Labelled(data.features + 3 * np.array(labels, np.float32)[:, None], np.array(labels)))


@pytest.mark.parametrize("strategy", [probe, svm])
def test_a_class_with_one_image_leaves_the_folds_that_can_be_fitted(strategy) -> None:
    """The fold that holds it out would be fitted to one class: it is dropped, and the record says how many are left."""
    task = with_labels(1, 0, 0, 0)
    parts, selection = folds.of_task(task)
    assert [[0, 1]] == [sorted(set(part.fit.labels)) for part in parts]
    assert "1 of 2 folds of cross-validation" == selection
    record = strategy.fit(task, strategy.Params(), task.context).record
    assert record.selection.startswith(selection)
    assert record.cv_accuracy is not None


def test_folds_that_all_can_be_fitted_stay_all() -> None:
    """Three images of each class make three folds."""
    parts, selection = folds.of_task(with_labels(*[0, 1, 2] * 3))
    assert (3, "3-fold cross-validation") == (len(parts), selection)


def test_where_nothing_is_held_out_the_record_says_just_that() -> None:
    """One image of each class: nothing to choose on, and no probe to speak of."""
    task = with_labels(0, 1, 2)
    record = probe.fit(task, probe.Params(), task.context).record
    assert folds.NOTHING_HELD_OUT == record.selection


def test_a_task_without_some_images_still_needs_two_classes() -> None:
    """Taking out all of a class but one is told as the lack of labels that it is; taking out a few is fine."""
    task = with_labels(1, 0, 0, 0)
    ids = list(task.train.frame["id"])
    assert 3 == len(task.without(ids[1:2]).train)
    with pytest.raises(DataError, match=r"at least two classes; found 3 labelled images of 1 class\(es\)"):
        task.without(ids[:1])


def bursts(groups: int, each: int) -> Task:
    """Groups of nearly equal images; which class a group has is drawn, so that nothing can be learnt of it."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(groups) % 3, each)
    features = np.repeat(random.normal(size=(groups, 8)), each, axis=0) + 1e-3 * random.normal(size=(groups * each, 8))
    names = np.repeat([f"burst {number}" for number in range(groups)], each).tolist()
    task = feature_task(None, Labelled(features.astype(np.float32), labels), group=names)
    everything = Manifest(task.target.frame.assign(split="train"))
    return replace(task, train=everything, val=everything.split("val"), target=everything)


def test_images_of_a_group_are_never_apart() -> None:
    """A burst on both sides would be recognised, and the weakest penalty would seem the best."""
    task = bursts(12, 5)
    rows, _ = folds.rows_of_task(task)
    groups = task.groups
    assert groups is not None
    assert all(not set(groups[part.fit]) & set(groups[part.held_out]) for part in rows)
    record = probe.fit(task, probe.Params(), task.context).record
    assert record.cv_accuracy is not None
    assert record.cv_accuracy < 0.6


def test_one_group_leaves_nothing_to_hold_out() -> None:
    """And two make two folds."""
    assert ([], folds.NOTHING_HELD_OUT) == folds.rows_of_task(one_burst())
    assert [] == folds.stratified(np.arange(4), np.array([0, 0, 1, 2]), 3, seed=0), "one image of each class"
    labels = np.array([0, 1, 0, 1])
    assert 2 == len(folds.stratified(labels, np.array([0, 0, 1, 1]), 5, seed=0))


def one_burst() -> Task:
    """Nine images of three classes, all of one burst."""
    data = blobs(9)
    task = feature_task(None, data, group=["one"] * 9)
    everything = Manifest(task.target.frame.assign(split="train"))
    return replace(task, train=everything, val=everything.split("val"), target=everything)
