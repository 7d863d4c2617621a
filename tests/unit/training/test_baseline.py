"""What `auto` keeps unless it is surely beaten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.training.choice.baseline import SEPARATES, baseline_of, left_one_out
from pipeline.training.choice.situation import Situation
from pipeline.training.classifiers import prototypes
from pipeline.training.task import Labelled


def clusters(per_class: int, apart: float, classes: int = 4) -> Labelled:
    """Labelled features around one centre per class."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), per_class)
    features = apart * np.eye(classes, 32)[labels] + random.normal(size=(len(labels), 32))
    return Labelled(features.astype(np.float32), labels)


def a_task(labelled: Labelled, *, unlabelled: int = 0, labels_from: str = "target") -> Any:
    known = [*("a" for _ in labelled.labels), *(None for _ in range(unlabelled))]
    target = SimpleNamespace(split=lambda _: SimpleNamespace(frame=pd.DataFrame({"label": known})))
    return SimpleNamespace(
        groups=None,
        all_set=labelled,
        target_set=labelled.features,
        target=target,
        labels_from=labels_from,
        classes=list("abcd"),
    )


def a_situation(labels: Any, per_class: int) -> Situation:
    return Situation(labels, per_class, source=False, source_misleads=False, nearness="middle")


@pytest.mark.parametrize("per_class", [2, 5])
def test_leaving_one_out_is_a_class_mean_of_the_others(per_class: int) -> None:
    """The closed form names what one fit per image would name."""
    labelled = clusters(per_class, apart=2.0)
    centre = labelled.features.mean(axis=0)
    right = 0
    for row in range(len(labelled)):
        others = np.arange(len(labelled)) != row
        rest = Labelled(labelled.features[others], labelled.labels[others])
        named = prototypes.cosines(rest, labelled.features[row : row + 1], centre, 4).argmax()
        right += int(named == labelled.labels[row])
    found = left_one_out(labelled, labelled.features)
    assert (found.right, found.images, found.classes) == (right, 4 * per_class, 4)
    assert 0 < right < 4 * per_class, "neither trivial nor hopeless"


def test_chance_is_zero_and_all_right_is_one() -> None:
    """Whatever the number of classes."""
    assert left_one_out(clusters(10, apart=50.0), np.zeros((1, 32))).beyond_chance == 1.0
    assert abs(left_one_out(clusters(200, apart=0.0), np.zeros((1, 32))).beyond_chance) < 0.1


@pytest.mark.parametrize(
    ("apart", "per_class", "unlabelled", "expected"),
    [
        (0.5, 5, 500, "lp_ft"),
        (20.0, 5, 500, "label_propagation"),
        (20.0, 5, 20, "class_mean"),
        (0.5, 4, 500, "label_propagation"),
        (0.5, 1, 0, "class_mean"),
        (0.5, 15, 0, "lp_ft"),
        (20.0, 15, 61, "label_propagation"),
        (20.0, 15, 60, "probe"),
    ],
)
def test_few_labels(apart: float, per_class: int, unlabelled: int, expected: str) -> None:
    """Features that do not separate are trained; else labels spread where more images have none than have one."""
    labels = "few" if per_class < 10 else "some"
    task = a_task(clusters(per_class, apart), unlabelled=unlabelled)
    found = baseline_of(task, a_situation(labels, per_class))
    assert found.strategy == expected
    assert (found.sentence is None) == (expected in ("class_mean", "probe"))
    if expected == "lp_ft":
        assert f"of {4 * per_class} labelled images, each left out in turn" in str(found.sentence)
        assert left_one_out(task.all_set, task.target_set).beyond_chance < SEPARATES


def test_many_labels_none_or_a_checkpoint() -> None:
    """There the labels, the source's or the checkpoint's own head decide, whatever the features are worth."""
    poor = clusters(30, apart=0.0)
    assert baseline_of(a_task(poor, unlabelled=500), a_situation("many", 30)) == ("probe", None, None)
    assert baseline_of(a_task(poor, labels_from="source"), a_situation("none", 0)) == ("probe", None, None)
    assert baseline_of(a_task(poor, labels_from="checkpoint"), a_situation("none", 0)) == ("as_is", None, None)


def test_an_image_is_left_out_with_its_group() -> None:
    """Bursts whose class is drawn are not told apart, however alike their images are; nor is a class that is left out
    whole named by what rounding leaves of it."""
    random = np.random.default_rng(0)
    labels, groups = np.repeat(np.arange(24) % 4, 5), np.repeat(np.arange(24), 5)
    features = np.repeat(random.normal(size=(24, 32)), 5, axis=0) + 1e-3 * random.normal(size=(120, 32))
    bursts = Labelled(features.astype(np.float32), labels)
    assert left_one_out(bursts, bursts.features).beyond_chance > 0.3
    assert left_one_out(bursts, bursts.features, groups).beyond_chance < 0.2
    apart = clusters(6, apart=50.0)
    assert 0 == left_one_out(apart, np.zeros((1, 32)), apart.labels).images, "nobody could name any of them"
    assert left_one_out(apart, np.zeros((1, 32)), np.arange(len(apart))).beyond_chance == 1.0
