"""Training on two domains at once: whose statistics, whose labels, which epoch, which guards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import device, plugins
from pipeline.core.errors import ParamsError
from pipeline.data.manifest import Manifest
from pipeline.models.heads import LinearHead
from pipeline.stages import features
from pipeline.training.adaptation.adapt import (
    Adaptation,
    adapt,
    epochs_for,
    has_source,
    rates,
    side,
    starting_head,
    statistics_stand_still,
)
from pipeline.training.adaptation.multitask import TwoTasks, fixed, has_other_classes, ramped, source_task
from pipeline.training.adaptation.params import AdaptationParams
from pipeline.training.adaptation.relationship import CoTuning, relationship
from pipeline.training.batch_norm import reestimate
from pipeline.training.engine import BATCH_NORM
from pipeline.training.objectives import Batch, Drawn, Images
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase
from pipeline.training.strategies import co_tuning, multitask
from pipeline.training.task import Labelled, Task, make_task

OPTIONS = EngineOptions(batch_size=8, min_steps_per_epoch=2)
PARAMS = AdaptationParams(name="test", epochs=2)

MakeTask = Callable[..., Task]


@pytest.fixture
def a_task(lasting_domains: Any, pretrained: Any) -> MakeTask:
    """The toy domains as a task: ``a_task(labels=False, source=False)``, or with whole tables in their place."""
    context = lasting_domains.context()
    manifests = {"source_manifest": lasting_domains.source, "target_manifest": lasting_domains.target}
    tables = features.run(features.Params(), context, backbone=pretrained, **manifests).outputs

    def make(*, labels: bool = True, source: bool = True) -> Task:
        target = lasting_domains.target.frame.copy()
        if not labels:
            target["label"] = None
        known = lasting_domains.source if source else Manifest.empty()
        arguments = {"source_manifest": known, "target_manifest": Manifest(target), **tables}
        return make_task(pretrained, lasting_domains.labels, options=OPTIONS, context=context, **arguments)

    return make


def no_alignment(labelled: Any, target: Any, progress: float) -> dict[str, torch.Tensor]:
    return {"alignment": target.logits.sum() * 0}


def statistics(network: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for name, value in network.named_buffers() if "running" in name]


def test_the_sources_batches_leave_no_trace_in_the_statistics(a_task: MakeTask) -> None:
    """They are normalised by their own; outside the block statistics move as ever."""
    network = a_task().pretrained_network().train()
    before = statistics(network)
    images = torch.rand(4, 3, 32, 32)
    with statistics_stand_still(network):
        inside = side(network, images).features
    assert all(map(torch.equal, before, statistics(network)))
    assert torch.equal(inside, side(network, images).features)
    assert not any(map(torch.equal, before, statistics(network)))


def test_the_network_ends_with_the_targets_statistics(a_task: MakeTask) -> None:
    """Without target labels; those of the stem's convolution are what its outputs for all target images say."""
    task = a_task(labels=False)
    network = adapt(task, PARAMS, no_alignment, "Nothing.").network
    images = task.target_images
    squares = images.bank.fetch(np.arange(len(images))).float() / 255
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (images.bank.preprocessing.mean, images.bank.preprocessing.std)
    )
    stem = network.backbone.stem[0]
    with torch.no_grad():
        expected = stem[0]((squares - mean) / std).mean(dim=(0, 2, 3))
    torch.testing.assert_close(stem[1].running_mean, expected, atol=1e-4, rtol=1e-3)


def test_without_target_labels_the_last_epoch_stays_and_guards_speak(a_task: MakeTask) -> None:
    """Nothing was chosen by images of the source; what is left of the source is a curve and a guard."""
    record = adapt(a_task(labels=False), PARAMS, no_alignment, "Nothing was aligned.").record
    assert [None, None] == [entry.val_loss for entry in record.history]
    assert all("source_retention" in entry.terms for entry in record.history)
    assert {
        "validation_losses_finite": True,
        "labelled_loss_did_not_rise": True,
        "balanced_predictions": True,
        "source_retention": True,
    } == record.guards
    assert "Nothing was aligned." in record.sentences
    assert any("the last one was kept, as no target label was there" in sentence for sentence in record.sentences)


def test_with_target_labels_validation_chooses_the_epoch(a_task: MakeTask) -> None:
    """Both domains' labels are learned, each with a curve of its own."""
    record = adapt(a_task(), PARAMS, no_alignment, "Nothing.").record
    assert all(entry.val_loss is not None for entry in record.history)
    assert {"labelled_loss", "target_loss", "alignment", "source_retention"} == set(record.history[0].terms)
    assert 0 <= record.val_accuracy <= 1


def test_without_a_source_it_is_semi_supervised(a_task: MakeTask) -> None:
    """Labelled target images are the main ones, unlabelled ones come beside them; there is no source to retain."""
    task = a_task(source=False)
    record = adapt(task, PARAMS, no_alignment, "Nothing.").record
    assert not has_source(task)
    assert {"labelled_loss", "alignment"} == set(record.history[0].terms)
    assert "source_retention" not in record.guards


def test_a_network_that_forgot_everything_breaks_the_guards(a_task: MakeTask) -> None:
    """An alignment that asks for one class only is found out without a target label."""

    def one_class(labelled: Any, target: Any, progress: float) -> dict[str, torch.Tensor]:
        answers = torch.cat([labelled.logits, target.logits])
        return {"alignment": -100 * answers.log_softmax(dim=1)[:, 0].mean()}

    params = AdaptationParams(name="test", epochs=6, learning_rate=1e-2)
    record = adapt(a_task(labels=False), params, one_class, "Everything was called class0.").record
    assert not record.guards["source_retention"]
    assert not record.guards["balanced_predictions"]


def test_measuring_the_source_leaves_the_network_as_it_was(a_task: MakeTask) -> None:
    """Its own statistics come back."""
    task = a_task(labels=False)
    network = task.pretrained_network()
    before = statistics(network)
    assert 0 <= Adaptation(task, PARAMS, no_alignment).accuracy_on_source(network, torch.device("cpu")) <= 1
    assert all(map(torch.equal, before, statistics(network)))


def test_the_head_starts_from_both_domains_labels(a_task: MakeTask) -> None:
    """A probe on the target's alone would be another one."""
    both, alone = (task.pretrained_network() for task in (a_task(), a_task()))
    starting_head(a_task(), both)
    starting_head(a_task(source=False), alone)
    assert not torch.equal(both.head.weight, alone.head.weight)
    source = a_task().source_set
    hits = both.head(torch.from_numpy(source.features)).argmax(dim=1).numpy() == source.labels
    assert hits.mean() > 0.8


def test_about_as_many_steps_whatever_the_size(a_task: MakeTask) -> None:
    """36 images make 5 steps of 8 an epoch; of those 50 epochs are the most."""
    task = a_task()
    assert 36 == len(task.source_images)
    assert 50 == epochs_for(task, task.source_images)
    larger = replace(task, options=EngineOptions(batch_size=8, min_steps_per_epoch=100))
    assert 12 == epochs_for(larger, task.source_images)


def test_published_backbones_move_slower_than_the_head(a_task: MakeTask) -> None:
    """Unless a factor is given."""
    network = a_task().pretrained_network()
    assert {1e-3} == set(rates(network, PARAMS).values())
    slower = rates(network, AdaptationParams(name="test", backbone_factor=0.1))
    assert (pytest.approx(1e-4), 1e-3) == (slower["stem"], slower["head"])
    network.row = network.row._replace(home="torchvision")
    assert rates(network, PARAMS) == slower


def batch(task: Task, *, progress: float = 0.0) -> Batch:
    images, labels, rows = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), torch.arange(4)
    drawn = Drawn((torch.rand(4, 3, 32, 32),), labels, rows)
    return Batch(images, labels, rows, {"target": drawn}, progress)


def test_two_tasks_add_up_with_the_targets_weight(a_task: MakeTask) -> None:
    """loss = source + λ · target, λ as progress says."""
    task = a_task()
    network, phase = task.pretrained_network(), Phase(name="x", epochs=1, learning_rates={})
    objective = TwoTasks(task.fit_images, ramped, None, 1e-3)
    terms = objective.loss(network, batch(task, progress=0.25), phase)
    assert terms["target_weight"] == 2
    assert pytest.approx((terms["source_loss"] + 2 * terms["target_loss"]).item()) == terms["loss"].item()


def test_the_targets_weight_rises_over_the_first_half() -> None:
    """From 1 to 3; a fixed one stays."""
    assert [1, 2, 3, 3] == [ramped(progress) for progress in (0, 0.25, 0.5, 0.9)]
    assert [0.3, 0.3] == [fixed(0.3)(progress) for progress in (0, 1)]


def test_a_source_with_other_classes_gets_a_head_of_its_own(a_task: MakeTask) -> None:
    """All its classes take part under their own numbers, and the record says so; the network answers as the target."""
    task = a_task()
    frame = task.source_all.frame.copy()
    frame.loc[frame.index[:6], "label"] = "class9"
    other = replace(task, source_all=Manifest(frame))
    assert (False, True) == (has_other_classes(task), has_other_classes(other))
    source = source_task(other, separate=True)
    assert (4, 36) == (source.own_classes, len(source.images))
    fitted = multitask.fit(other, multitask.Params(epochs=1, tune_epochs=1), other.context)
    assert "The source's 4 classes had a head of their own, which was dropped at the end." in fitted.record.sentences
    assert 3 == len(fitted.network.head.bias)
    assert ["both_domains", "tune_head"] == [entry.phase for entry in fitted.record.history]
    assert fitted.record.guards["frozen_weights_unchanged"]


def test_the_targets_weight_is_searched_on_validation(a_task: MakeTask) -> None:
    """The best of three is chosen and told."""
    task = a_task()
    record = multitask.fit(task, multitask.Params(epochs=1, tune_epochs=0, weighting="searched"), task.context).record
    assert record.chosen["target_weight"] in (0.3, 1.0, 3.0)
    assert any("chosen on validation, by cross-entropy: " in sentence for sentence in record.sentences)


def test_searching_without_validation_is_refused(a_task: MakeTask) -> None:
    """Training loss would always prefer the largest weight."""
    task = a_task()
    few = replace(task, val=Manifest.empty())
    with pytest.raises(ParamsError, match="Set it to 'ramped' or 'fixed', or label more images"):
        multitask.fit(few, multitask.Params(weighting="searched"), few.context)


def test_the_relationship_is_the_mean_answer_per_class() -> None:
    """Against numpy's loop; a class without images gets the mean of the others."""
    random = np.random.default_rng(0)
    data = Labelled(random.normal(0, 1, (12, 5)).astype(np.float32), np.arange(12) % 2)
    weight, bias = random.normal(0, 1, (4, 5)).astype(np.float32), random.normal(0, 1, 4).astype(np.float32)
    head = LinearHead.restored({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    powers = np.exp(data.features @ weight.T + bias)
    answers = powers / powers.sum(axis=1, keepdims=True)
    known = np.stack([answers[::2].mean(axis=0), answers[1::2].mean(axis=0)])
    np.testing.assert_allclose([*known, known.mean(axis=0)], relationship(head, data, 3), rtol=1e-5)


def test_co_tuning_adds_the_cross_entropy_of_soft_rows(a_task: MakeTask) -> None:
    """−Σ_s p(s | y) log q(s), weighted by the trade-off."""
    task = a_task()
    network = task.pretrained_network().eval()
    head = LinearHead.restored(task.backbone.head)
    rows = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
    step = batch(task)
    terms = CoTuning(head, rows, 2.3, 1e-3).loss(network, step, Phase(name="x", epochs=1, learning_rates={}))
    logs = torch.log_softmax(head(network.backbone(step.images)), dim=1).detach().numpy()
    expected = -(rows[step.labels.numpy()] * logs).sum(axis=1).mean()
    assert pytest.approx(expected, rel=1e-5) == terms["source_loss"].item()
    assert pytest.approx(terms["target_loss"].item() + 2.3 * expected, rel=1e-5) == terms["loss"].item()


def test_co_tuning_drops_the_checkpoints_head(a_task: MakeTask) -> None:
    """The network answers with the target's classes alone, and the task's checkpoint keeps its own head."""
    task = a_task()
    before = {name: value.clone() for name, value in task.backbone.head.items()}
    fitted = co_tuning.fit(task, co_tuning.Params(epochs=1), task.context)
    assert not any("source_head" in name for name in fitted.network.state_dict())
    assert {"target_loss", "source_loss"} == set(fitted.record.history[0].terms)
    for name, value in before.items():
        assert torch.equal(value, task.backbone.head[name])


def test_a_source_without_held_out_images_is_told_of(a_task: MakeTask) -> None:
    """No guard can then hold, and the record does not keep silent."""
    task = a_task(labels=False)
    record = adapt(replace(task, source=task.source.split("train")), PARAMS, no_alignment, "Nothing.").record
    assert "source_retention" not in record.guards
    assert "What is left of the source was not measured: none of its images are held out." in record.sentences


def test_a_source_that_was_hardly_known_guards_nothing(a_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of luck says nothing; the record gives both figures and why they were not judged."""
    monkeypatch.setattr(Adaptation, "remember", lambda self, *_: setattr(self, "before", 0.35))
    record = adapt(a_task(labels=False), PARAMS, no_alignment, "Nothing.").record
    assert "source_retention" not in record.guards
    assert any("35.0% were before: too near to chance" in sentence for sentence in record.sentences)


def test_momenta_come_back_after_an_error(a_task: MakeTask) -> None:
    """From inside the block, and from estimating statistics anew."""
    task = a_task()
    network = task.pretrained_network()
    momenta = {module.momentum for module in network.modules() if isinstance(module, BATCH_NORM)}

    def broken() -> None:
        with statistics_stand_still(network):
            raise KeyboardInterrupt

    bank = SimpleNamespace(plain_views=lambda steps, device: (broken() for _ in steps))
    unreadable = Images(bank, task.target_images.labels)
    for call in (broken, lambda: reestimate(network, unreadable, torch.device("cpu"))):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert momenta == {module.momentum for module in network.modules() if isinstance(module, BATCH_NORM)}


@pytest.mark.parametrize("strategy", ["adabn", "full", "multitask", "shot", "tent"])
def test_what_is_measured_is_measured_on_the_runs_device(
    a_task: MakeTask, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """No scoring falls back to the CPU where the run has something faster, and the network ends on the CPU."""
    asked: set[str] = set()
    real = device.choose

    def chosen(requested: str = "auto") -> torch.device:
        asked.add(requested)
        return torch.device("cpu")

    for module in [module for name, module in sys.modules.items() if name.startswith("pipeline.")]:
        if hasattr(module, "choose") and module.choose is real:
            monkeypatch.setattr(module, "choose", chosen)
    task = a_task()
    task = replace(task, context=replace(task.context, device="another"))
    module = plugins.load("pipeline.training.strategies", strategy)
    fields = {name: 1 for name in ("epochs", "tune_epochs") if name in module.Params.model_fields}
    network = module.fit(task, module.Params(**fields), task.context).network
    assert {"another"} == asked
    assert {"cpu"} == {value.device.type for value in network.state_dict().values()}
