"""Every file in pipeline/training/strategies keeps the contract of a strategy; a new one is found by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import plugins
from pipeline.core.context import Result
from pipeline.core.params import PluginParams
from pipeline.data.manifest import Manifest
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights
from pipeline.stages import features, train
from pipeline.training import heads

NAMES = plugins.names(train.STRATEGIES)


@pytest.fixture(params=NAMES)
def strategy(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start() -> BackboneWeights:
    return random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)


def run_on(toy_domains: Any, start: BackboneWeights, strategy: str | dict[str, Any], **options: Any) -> Result:
    domains = {"source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    context = toy_domains.context()
    tables = features.run(features.Params(), context, backbone=start, **domains).outputs
    small = {"batch_size": 8, "min_steps_per_epoch": 1}
    chosen = _quick(strategy) if isinstance(strategy, str) else strategy
    params = train.Params(strategy=chosen, **small, **options)
    return train.run(params, context, backbone=start, label_space=toy_domains.labels, **domains, **tables)


def _quick(strategy: str) -> dict[str, Any]:
    fields = plugins.load(train.STRATEGIES, strategy).Params.model_fields
    return {"name": strategy, **({"epochs": 2} if "epochs" in fields else {})}


def test_describes_itself(strategy: str) -> None:
    """A strategy says where it comes from, when it helps and hurts, what it costs and what it needs."""
    module = plugins.load(train.STRATEGIES, strategy)
    text = inspect.getdoc(module) or ""
    assert [word for word in ("Helps:", "Hurts:", "Cost:") if word in text] == ["Helps:", "Hurts:", "Cost:"]
    assert module.SUMMARY
    assert set(module.NEEDS) <= {"labels", "features", "pixels", "source", "unlabelled"}
    assert issubclass(module.Params, PluginParams)
    assert strategy == module.Params().name


def test_answers_with_the_targets_classes(toy_domains: Any, start: BackboneWeights, strategy: str) -> None:
    """The network has one finite logit per class, in the label space's order, and the record says the same."""
    outputs = run_on(toy_domains, start, strategy).outputs
    trained = outputs["network"]
    logits = trained.build()(torch.zeros(2, 3, 32, 32))
    assert tuple(logits.shape) == (2, 3)
    assert bool(logits.isfinite().all())
    assert toy_domains.labels.classes == trained.classes == outputs["training"].classes


def test_record_is_complete(toy_domains: Any, start: BackboneWeights, strategy: str) -> None:
    """The record names the strategy, its parameters, the images it used and what it was selected on."""
    record = run_on(toy_domains, start, strategy).outputs["training"]
    assert strategy == record.strategy == record.params["name"]
    assert record.images == {"train": 18, "val": 6, "unlabelled": 24}
    assert record.selection
    assert all(record.guards.values())
    assert 2 <= len(record.sentences) <= 4
    assert all(sentence.endswith(".") and sentence.count("  ") == 0 for sentence in record.sentences)
    assert record.sentences[0].startswith("24 labelled target images were trained on, the 6 of the validation split")


def test_frozen_weights_are_bit_equal(toy_domains: Any, start: BackboneWeights, strategy: str) -> None:
    """Groups that the record calls frozen hold the start's weights and BatchNorm statistics; a probe freezes all."""
    outputs = run_on(toy_domains, start, strategy).outputs
    network = outputs["network"].build()
    rows = outputs["training"].groups
    trainable = {row.group for row in rows if row.trainable}
    fixed_statistics = {row.group for row in rows if row.batch_norm != "updated"}
    for group in network.row.blocks:
        for name, value in network.state_of(group).items():
            is_statistic = "running_" in name or "num_batches" in name
            kept = group in fixed_statistics or not rows if is_statistic else group not in trainable
            if kept and strategy != "scratch":
                assert torch.equal(start.state[name.removeprefix("backbone.")], value), name


def test_equal_seeds_give_equal_bytes(toy_domains: Any, start: BackboneWeights, strategy: str) -> None:
    """Two runs on the same inputs make the same weights file and the same record."""
    first, second = (run_on(toy_domains, start, strategy).outputs for _ in range(2))
    assert first["network"].facts.weights_digest == second["network"].facts.weights_digest
    assert first["training"] == second["training"]


def test_never_sees_the_test_split(toy_domains: Any, start: BackboneWeights, strategy: str) -> None:
    """Wrong labels in the test split change nothing."""
    honest = run_on(toy_domains, start, strategy).outputs["network"].facts.weights_digest
    frame = toy_domains.target.frame.copy()
    frame.loc[frame["split"] == "test", "label"] = "class0"
    twisted = toy_domains._replace(target=type(toy_domains.target)(frame))
    assert honest == run_on(twisted, start, strategy).outputs["network"].facts.weights_digest


def test_learns_from_the_source_when_the_target_has_no_labels(
    toy_domains: Any, start: BackboneWeights, strategy: str
) -> None:
    """An unlabelled target is no error: the source's labels take their place, and the record says so."""
    frame = toy_domains.target.frame.copy()
    frame["label"] = frame["label"].where(frame["split"] == "test", None)
    unlabelled = toy_domains._replace(target=type(toy_domains.target)(frame))
    record = run_on(unlabelled, start, strategy).outputs["training"]
    assert record.labels_from == "source"
    assert record.images == {"train": 36, "val": 12, "unlabelled": 48}
    assert np.isfinite(record.val_accuracy)


@pytest.fixture
def dice_thrown(toy_domains: Any, toy_manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A target with a validation split large enough to choose on (24 images), whose labels there are dice throws; and
    penalties so weak that a probe learns by heart whatever it is fitted to.
    """
    monkeypatch.setattr(heads, "penalty_path", lambda *_: [1e-5, 1e-6])
    frame = toy_manifest("target", per_class=40, brightness=150, seed=7).frame
    val = frame["split"] == "val"
    frame.loc[val, "label"] = np.random.default_rng(3).permutation(frame.loc[val, "label"])
    return toy_domains._replace(target=Manifest(frame))


def honest_accuracy(domains: Any, start: BackboneWeights) -> float:
    """Of a probe that saw none of the validation labels."""
    return run_on(domains, start, "probe").outputs["training"].val_accuracy


def test_random_validation_labels_are_not_learned(dice_thrown: Any, start: BackboneWeights, strategy: str) -> None:
    """What is reported for the validation split is not fitted to it: dice throws are predicted no better than a third,
    but for the luck of choosing among a few epochs.
    """
    record = run_on(dice_thrown, start, strategy).outputs["training"]
    assert record.selection == "validation split"
    assert record.val_accuracy <= max(honest_accuracy(dice_thrown, start), 1 / 3 + 0.15)


@pytest.mark.parametrize("strategy", ["lp_ft", "partial"])
def test_fine_tuning_starts_from_a_head_that_has_not_seen_validation(
    dice_thrown: Any, start: BackboneWeights, strategy: str
) -> None:
    """At a rate of (almost) zero nothing moves, and the accuracy is that of the honest probe."""
    still = run_on(dice_thrown, start, {"name": strategy, "learning_rate": 1e-12, "epochs": 1})
    assert honest_accuracy(dice_thrown, start) == still.outputs["training"].val_accuracy


def test_the_probe_is_at_last_fitted_to_validation_too(dice_thrown: Any, start: BackboneWeights) -> None:
    """Once the penalty is chosen nothing else is judged on that split: other labels there, another head."""
    first = run_on(dice_thrown, start, "probe").outputs["network"].state["head.weight"]
    frame = dice_thrown.target.frame.copy()
    val = frame.index[frame["split"] == "val"]
    frame.loc[val[0], "label"] = next(name for name in dice_thrown.labels.classes if name != frame.loc[val[0], "label"])
    other = run_on(dice_thrown._replace(target=Manifest(frame)), start, "probe").outputs["network"].state["head.weight"]
    assert not torch.equal(first, other)
