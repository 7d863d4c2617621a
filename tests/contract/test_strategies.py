"""Every file in pipeline/training/strategies keeps the contract of a strategy; a new one is found by itself.

Each is run five times on toy domains and all tests look at these runs.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core import plugins
from pipeline.core.context import Result
from pipeline.core.errors import DataError
from pipeline.core.params import PluginParams
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.evaluation.domains import DomainReport
from pipeline.features.table import FeatureTable
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.network import TrainedNetwork
from pipeline.serving.export import to_onnx
from pipeline.serving.parity import compare
from pipeline.serving.parity_report import FLIPS
from pipeline.serving.predictor import Predictor
from pipeline.serving.reference import known_answers, reference
from pipeline.stages import features, train
from pipeline.training.classifiers import heads
from pipeline.training.needs import NEEDS

NAMES = plugins.names(train.STRATEGIES)

QUICK = {
    "epochs": 2,
    "trees": 10,
    "rounds": 3,
    "ingredients": 2,
    "budget_minutes": 0.2,
    "candidates": ["probe", "class_mean", "standardise"],
}
"""Values that make a strategy short, for those of its parameters that have these names."""

NEW_BODY = ("scratch", "distill")
"""Strategies whose network does not start from the task's backbone."""


def quick(strategy: str, **chosen: Any) -> dict[str, Any]:
    fields = plugins.load(train.STRATEGIES, strategy).Params.model_fields
    return {"name": strategy, **{name: value for name, value in QUICK.items() if name in fields}, **chosen}


def run_on(domains: Any, start: BackboneWeights, strategy: dict[str, Any]) -> Result:
    manifests = {"source_manifest": domains.source, "target_manifest": domains.target}
    context = domains.context()
    tables = features.run(features.Params(), context, backbone=start, **manifests).outputs
    params = train.Params(strategy=strategy, batch_size=8, min_steps_per_epoch=1)
    apart = DomainReport()
    return train.run(params, context, backbone=start, label_space=domains.labels, domains=apart, **manifests, **tables)


def with_target(domains: Any, change: Any) -> Any:
    """The domains with ``change`` made to a copy of the target's table."""
    frame: pd.DataFrame = domains.target.frame.copy()
    change(frame)
    return domains._replace(target=Manifest(frame))


def wrong_test_labels(frame: pd.DataFrame) -> None:
    frame.loc[frame["split"] == "test", "label"] = "class0"


def no_labels(frame: pd.DataFrame) -> None:
    frame["label"] = frame["label"].where(frame["split"] == "test", None)


def dice_in_val(frame: pd.DataFrame) -> None:
    """Dice throws for validation labels, and so many of them that luck is small."""
    val = frame["split"] == "val"
    frame.loc[val, "label"] = np.random.default_rng(3).choice(["class0", "class1", "class2"], val.sum())


def one_per_class(frame: pd.DataFrame) -> None:
    """The first labelled training image of each class keeps its label."""
    known = frame["label"].notna() & (frame["split"] == "train")
    first = frame[known].groupby("label").head(1).index
    frame.loc[(frame["split"] != "test") & ~frame.index.isin(first), "label"] = None


VARIANTS = {
    "plain": lambda frame: None,
    "again": wrong_test_labels,
    "unlabelled": no_labels,
    "dice": dice_in_val,
    "one": one_per_class,
}


@pytest.fixture(scope="session")
def ran(lasting_domains: Any, near_domains: Any, pretrained: BackboneWeights) -> Any:
    """``ran(strategy, variant)``: the outputs of a run, made once."""

    @cache
    def run(strategy: str, variant: str) -> dict[str, Any]:
        domains = near_domains if strategy == "instance" else lasting_domains  # it refuses to bridge a wide gap
        return run_on(with_target(domains, VARIANTS[variant]), pretrained, quick(strategy)).outputs

    return run


@pytest.fixture(params=NAMES)
def strategy(request: pytest.FixtureRequest) -> str:
    return request.param


def needs(strategy: str) -> tuple[str, ...]:
    return plugins.load(train.STRATEGIES, strategy).NEEDS


def test_describes_itself(strategy: str) -> None:
    """A strategy says where it comes from, when it helps and hurts, what it costs and what it needs."""
    module = plugins.load(train.STRATEGIES, strategy)
    text = inspect.getdoc(module) or ""
    assert [word for word in ("Helps:", "Hurts:", "Cost:") if word in text] == ["Helps:", "Hurts:", "Cost:"]
    assert module.SUMMARY
    assert set(module.NEEDS) <= set(NEEDS)
    assert issubclass(module.Params, PluginParams)
    assert strategy == module.Params().name


def test_answers_with_the_targets_classes(ran: Any, strategy: str, lasting_domains: Any) -> None:
    """The network has one finite logit per class, in the label space's order, and the record says the same."""
    outputs = ran(strategy, "plain")
    trained = outputs["network"]
    size_px = trained.preprocessing.size_px
    logits = trained.build()(torch.zeros(2, 3, size_px, size_px))
    assert tuple(logits.shape) == (2, 3)
    assert bool(logits.isfinite().all())
    assert lasting_domains.labels.classes == trained.classes == outputs["training"].classes


def test_record_is_complete(ran: Any, strategy: str) -> None:
    """The record names the strategy, its parameters, the images it used and what it was selected on."""
    record = ran(strategy, "plain")["training"]
    assert strategy == record.strategy == record.params["name"]
    assert {"train": 36, "val": 12} == {name: record.images[name] for name in ("train", "val")}
    assert record.selection
    assert [name for name, kept in record.guards.items() if not kept] == []
    assert 2 <= len(record.sentences) <= 12
    assert all(sentence.endswith(".") and sentence.count("  ") == 0 for sentence in record.sentences)
    opening = "36 labelled target images were trained on; 12 more were held out"
    assert record.sentences[0].startswith("No labelled image was used" if strategy == "as_is" else opening)


def test_learns_the_task(ran: Any, strategy: str, lasting_domains: Any, near_domains: Any) -> None:
    """Bright bars are easy: far more test images are answered rightly than by chance."""
    if strategy in (*NEW_BODY, "as_is"):
        pytest.skip("two epochs are too few for random weights, and none for a head that is left as it is")
    domains = near_domains if strategy == "instance" else lasting_domains
    assert accuracy(ran(strategy, "plain")["network"], domains) > 0.6


def test_helps_without_labels(ran: Any, strategy: str, lasting_domains: Any) -> None:
    """What adapts to unlabelled images carries what it learned from the source over to the target."""
    if strategy in (*NEW_BODY, "instance") or "unlabelled" not in needs(strategy):
        pytest.skip("does not adapt")
    assert accuracy(ran(strategy, "unlabelled")["network"], lasting_domains) > 0.4


def accuracy(trained: TrainedNetwork, domains: Any) -> float:
    test = domains.target.split("test").labelled
    pixels = np.stack(list(ImageStore(domains.workspace, 1).pixels(test)))
    answered = reference(trained.build(), trained.preprocessing)(pixels).argmax(1)
    return float((answered == domains.labels.indices(test.frame["label"])).mean())


def test_frozen_weights_are_bit_equal(ran: Any, strategy: str, pretrained: BackboneWeights) -> None:
    """Groups that the record calls frozen hold the start's weights; without any trained group, all of them do."""
    outputs = ran(strategy, "plain")
    if outputs["network"].facts.strategy in NEW_BODY:
        pytest.skip("starts from other weights")
    network = outputs["network"].build()
    rows = outputs["training"].groups
    trainable = {row.group for row in rows if row.trainable}
    updated = {row.group for row in rows if row.batch_norm == "updated"}
    for group in network.row.blocks:
        for name, value in network.state_of(group).items():
            is_statistic = "running_" in name or "num_batches" in name
            kept = group not in updated if is_statistic else group not in trainable
            if kept and (rows or not is_statistic):
                assert torch.equal(pretrained.state[name.removeprefix("backbone.")], value), name


def test_equal_runs_give_equal_bytes_whatever_the_test_labels(ran: Any, strategy: str) -> None:
    """Two runs make the same weights file and the same record, though the second's test labels are all wrong."""
    first, second = ran(strategy, "plain"), ran(strategy, "again")
    assert first["network"].facts.weights_digest == second["network"].facts.weights_digest
    assert first["training"] == second["training"]


def test_works_without_target_labels_or_says_that_it_cannot(ran: Any, strategy: str) -> None:
    """The source's labels take their place, and the record says so; or the message names what is missing."""
    if {"target_labels"} & set(needs(strategy)):
        with pytest.raises(DataError, match=f"labelled target images for strategy '{strategy}'"):
            ran(strategy, "unlabelled")
        return
    record = ran(strategy, "unlabelled")["training"]
    assert record.labels_from == "source"
    assert {"train": 36, "val": 12} == {name: record.images[name] for name in ("train", "val")}
    assert record.images["unlabelled"] == 96


def test_one_label_per_class_is_enough_or_the_message_says_not(ran: Any, strategy: str) -> None:
    """With nothing to hold out, defaults take the place of choices; what needs more says so."""
    if "validation" in needs(strategy):
        with pytest.raises(DataError, match=f"a validation split with three images of each class for .*'{strategy}'"):
            ran(strategy, "one")
        return
    outputs = ran(strategy, "one")
    record = outputs["training"]
    assert record.val_accuracy is None
    assert record.images["train"] + record.images["val"] == 3
    assert all(bool(value.isfinite().all()) for value in outputs["network"].state.values())


def test_random_validation_labels_are_not_learned(ran: Any, strategy: str) -> None:
    """What is reported for the validation split is not fitted to it: dice throws are predicted no better than a third,
    but for the luck of 12 images and of choosing among a few.
    """
    record = ran(strategy, "dice")["training"]
    if record.val_accuracy is not None:
        assert record.val_accuracy <= 8 / 12


def test_the_exported_file_answers_as_the_network(ran: Any, strategy: str, lasting_domains: Any) -> None:
    """One ONNX file for every head and backbone: the same class on every image, the same probabilities."""
    trained = ran(strategy, "plain")["network"]
    module = trained.build()
    model = to_onnx(module, trained.preprocessing, trained.classes, trained.metadata)
    pixels = ImageStore(lasting_domains.workspace, 1).pixels(lasting_domains.target.split("test"))
    network = reference(module, trained.preprocessing)
    report = compare(network, Predictor(model), pixels, split="test", batch_sizes=(1, 7)).report
    assert report.disagreements == 0
    assert report.max_probability_delta < 1e-4


@pytest.fixture(scope="session")
def table(lasting_domains: Any, pretrained: BackboneWeights) -> FeatureTable:
    """What the pretrained backbone makes of every target image."""
    manifests = {"source_manifest": lasting_domains.source, "target_manifest": lasting_domains.target}
    outputs = features.run(features.Params(), lasting_domains.context(), backbone=pretrained, **manifests).outputs
    return cast(FeatureTable, outputs["target_features"])


def test_features_stand_for_a_backbone_that_was_kept(
    ran: Any, strategy: str, lasting_domains: Any, table: FeatureTable
) -> None:
    """The head answers them as the network answers the images; of a backbone that has learnt they tell nothing."""
    trained, rows = ran(strategy, "plain")["network"], lasting_domains.target.split("test")
    module = trained.build()
    known = known_answers(trained, module, table, rows)
    assert trained.keeps_backbone == (known is not None)
    if known is not None:
        images = list(ImageStore(lasting_domains.workspace, 1).pixels(rows))
        step = float(getattr(module.head, "step", 0.0))
        np.testing.assert_allclose(known, reference(module, trained.preprocessing)(images), atol=1e-4 + FLIPS * step)


@pytest.mark.parametrize("strategy", ["lp_ft", "partial"])
def test_fine_tuning_starts_from_a_head_that_has_not_seen_validation(
    lasting_domains: Any, pretrained: BackboneWeights, ran: Any, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate of (almost) zero nothing moves, and the accuracy is that of a probe that saw no validation label, even
    with penalties so weak that it learns by heart whatever it is fitted to.
    """
    monkeypatch.setattr(heads, "penalty_path", lambda *_: [1e-5, 1e-6])
    dice = with_target(lasting_domains, dice_in_val)
    still = run_on(dice, pretrained, {"name": strategy, "learning_rate": 1e-12, "epochs": 1}).outputs["training"]
    honest = run_on(dice, pretrained, quick("probe")).outputs["training"]
    assert honest.val_accuracy == still.val_accuracy


def test_the_probe_is_at_last_fitted_to_validation_too(ran: Any) -> None:
    """Once the penalty is chosen nothing else is judged on that split: other labels there, another head."""
    plain, dice = (ran("probe", variant)["network"].state["head.weight"] for variant in ("plain", "dice"))
    assert not torch.equal(plain, dice)
