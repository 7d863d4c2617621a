"""The task: where labels come from, what a part of it still has, and how much memory decoded images take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import DataError
from pipeline.data.manifest import Manifest
from pipeline.training.engine import score_on
from pipeline.training.task import Task, make_task


def test_decoded_images_of_all_banks_share_one_budget(a_task: Task) -> None:
    """Beyond it the oldest are let go, and decoded to the same pixels when they are asked for again."""
    small = replace(a_task, options=a_task.options.model_copy(update={"memory_mb": 0.25}), _banks={})
    first = small.target_images.bank
    before = first.fetch(np.arange(5)).clone()
    assert 0.2 < first.kept_mb < 0.25
    small.source_images.bank.fetch(np.arange(5))
    assert first.kept_mb > 0
    assert small.fit_images.bank is not first
    assert first.kept_mb == 0.0
    assert (first.fetch(np.arange(5)) == before).all()


def test_a_part_without_some_images_has_none_of_their_traces(a_task: Task) -> None:
    """Neither labels nor unlabelled pixels nor features of what was taken out are left."""
    out = set(a_task.train.frame["id"].head(6))
    rest = a_task.without(out)
    assert len(rest.train) == len(a_task.train) - 6
    assert len(rest.target_set) == len(a_task.target_set) - 6
    assert not out & set(rest.target.frame["id"])


def test_a_part_with_one_class_left_is_refused(a_task: Task) -> None:
    """There would be nothing to tell apart."""
    out = set(a_task.train.where(a_task.train.frame["label"] != "class0").frame["id"])
    with pytest.raises(DataError, match="1 class"):
        a_task.without(out)


def test_labels_that_only_the_validation_split_has_do_not_hide_the_source(a_task: Task) -> None:
    """A target without a labelled training image learns from the source's labels."""

    def only_val(frame: Any) -> Any:
        return frame.assign(label=frame["label"].where(frame["split"] == "val", None))

    task = make_task(
        a_task.backbone,
        a_task.label_space,
        a_task.source_all,
        Manifest(only_val(a_task.target.frame)),
        a_task.source_features,
        a_task.target_features,
        a_task.options,
        a_task.context,
    )
    assert task.labels_from == "source"


def test_the_source_is_held_out_unless_it_was_fitted_to(a_task: Task) -> None:
    """Where its labels stand for the target's, and its validation split is too small to choose by, both are fitted."""
    assert a_task.source_is_held_out
    taught = replace(a_task, labels_from="source", train=a_task.source.split("train"), val=a_task.source.split("val"))
    assert taught.source_is_held_out == taught.holds_out
    few = Manifest(a_task.source.split("val").frame.head(2))
    assert not replace(taught, val=few).source_is_held_out
    assert not replace(a_task, source=a_task.source.split("train")).source_is_held_out


def test_validation_images_of_an_untaught_class_have_no_loss(a_task: Task) -> None:
    """They are misses all the same."""
    without = replace(a_task, train=a_task.train.where(a_task.train.frame["label"] != "class2"))
    images = without.val_images
    assert images is not None
    assert (images.labels != 2).tolist() == images.taught.tolist()
    beside = without.val_images_beside_source
    assert beside is not None
    assert beside.taught.all(), "the source has that class"
    network = without.pretrained_network()
    network.set_head(torch.zeros(3, 256), torch.tensor([1.0, 0.0, -30.0]))
    found = score_on("cpu", network, images)
    taught = images.labels[images.taught]
    nats = -np.log(np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum())
    assert found.loss == pytest.approx(nats[taught].mean(), rel=1e-5)
    assert found.accuracy == pytest.approx((images.labels == 0).mean())
