"""Distillation: the loss, what the student is shown, what is measured of it, and the strategy around these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core import plugins
from pipeline.core.errors import DataError, ParamsError
from pipeline.data.manifest import Manifest
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import random_weights
from pipeline.models.network import Network, TrainedNetwork, build_backbone
from pipeline.params import parse
from pipeline.stages import features
from pipeline.training import distillation
from pipeline.training.distillation import Distillation, Drop
from pipeline.training.objectives import UNLABELLED, Batch
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase
from pipeline.training.strategies import distill
from pipeline.training.task import Task, make_task

PHASE = Phase(name="distil", epochs=1, learning_rates={})
QUICK = {"teacher": "probe", "epochs": 1}


@pytest.fixture(scope="module")
def task_of(lasting_domains: Any) -> Callable[..., Task]:
    """The toy task, with a change made to the target's table."""
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    domains = {"source_manifest": lasting_domains.source, "target_manifest": lasting_domains.target}
    tables = features.run(features.Params(), lasting_domains.context(), backbone=start, **domains).outputs

    def make(change: Callable[[Any], Any] = lambda frame: frame, **context: Any) -> Task:
        target = Manifest(change(lasting_domains.target.frame.copy()).reset_index(drop=True))
        options = EngineOptions(batch_size=16, min_steps_per_epoch=1)
        return make_task(
            start,
            lasting_domains.labels,
            lasting_domains.source,
            target,
            tables["source_features"],
            tables["target_features"],
            options,
            lasting_domains.context(**context),
        )

    return make


def unlabelled(frame: Any) -> Any:
    return frame.assign(label=frame["label"].where(frame["split"] == "test", None))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


class Answering(nn.Module):
    """Answers with what it was given, whatever the images."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(images)]


def loss_of(answers: np.ndarray, logits: np.ndarray, labels: list[int], rows: list[int], **options: float) -> Any:
    batch = Batch(torch.zeros(len(rows), 3, 8, 8), torch.tensor(labels), torch.tensor(rows), {}, 0.0)
    return Distillation(answers, **options).loss(Answering(logits), batch, PHASE)


def test_the_loss_is_hintons() -> None:
    """α·T²·KL between softened answers, and (1 − α) cross-entropy for those with a label; means over the batch."""
    random = np.random.default_rng(0)
    answers, logits = (random.normal(size=(5, 3)).astype(np.float32) * 3 for _ in "ts")
    rows, labels = [4, 0, 2], [1, UNLABELLED, 2]
    taught, learned = softmax(answers[rows] / 4), softmax(logits[:3] / 4)
    soft = 16 * (taught * np.log(taught / learned)).sum(axis=1).mean()
    hard = -(np.log(softmax(logits)[0, 1]) + np.log(softmax(logits)[2, 2])) / 3
    found = loss_of(answers, logits, labels, rows, temperature=4.0, alpha=0.7)
    assert found["loss"].item() == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-5)


def test_unlabelled_images_only_hear_the_teacher() -> None:
    """A batch without a label has no hard part; answering as the teacher does costs nothing."""
    logits = np.eye(3, dtype=np.float32)
    found = loss_of(logits, logits, [UNLABELLED] * 3, [0, 1, 2], temperature=2.0, alpha=0.5)
    assert (found["hard"].item(), found["loss"].item()) == (0.0, pytest.approx(0.0, abs=1e-6))


def test_the_source_joins_in_where_the_target_has_few(task_of: Callable[..., Task]) -> None:
    """Its labels stay unused, as the target has some; with images enough it stays away."""
    manifest, labels = distillation.pupils(task_of(), few=1000)
    assert (72 + 36, 36) == (len(manifest), int((labels != UNLABELLED).sum()))
    assert set(manifest.frame["domain"][labels != UNLABELLED]) == {"target"}
    assert 72 == len(distillation.pupils(task_of(), few=10)[0])
    assert set(manifest.frame["split"]) == {"train"}


def test_the_sources_labels_count_where_there_are_no_others(task_of: Callable[..., Task]) -> None:
    """The target's images come along all the same."""
    manifest, labels = distillation.pupils(task_of(unlabelled), few=0)
    assert set(manifest.frame["domain"][labels != UNLABELLED]) == {"source"}
    assert (72 + 36, 36) == (len(manifest), int((labels != UNLABELLED).sum()))


def fixed(task: Task, bias: list[float]) -> tuple[Network, Any]:
    """A network that always gives the same answer."""
    network = Network("small_cnn", build_backbone("small_cnn"), 3)
    network.set_head(torch.zeros(3, 256), torch.tensor(bias))
    return network, task.backbone.preprocessing


def test_the_drop_is_in_accuracy_where_labels_are_enough(task_of: Callable[..., Task]) -> None:
    """Two networks with one answer each are right for a third, on the 12 labelled validation images."""
    task = task_of()
    labels = task.label_space.indices(task.val.frame["label"])
    drop = distillation.measure(task, fixed(task, [1.0, 0.0, 0.0]), fixed(task, [0.0, 1.0, 0.0]), labels)
    assert Drop("accuracy", 12, 1 / 3, 1 / 3, 0.0) == drop


def test_a_teacher_is_not_flattered_by_images_it_was_fitted_to(task_of: Callable[..., Task]) -> None:
    """What its own record claims counts: a probe is at last fitted to the validation images too."""
    task = task_of()
    labels = task.label_space.indices(task.val.frame["label"])
    same = fixed(task, [1.0, 0.0, 0.0])
    assert distillation.measure(task, same, same, labels, teachers_accuracy=0.25).value == pytest.approx(0.25 - 1 / 3)
    alone = plugins.load(distill.PACKAGE, "probe")
    honest = alone.fit(task, alone.Params(), task.context).record.val_accuracy
    record = distill.fit(task, distill.Params(**QUICK), task.context).record
    assert honest == record.measured["teacher_accuracy"]


def test_else_it_is_the_share_of_other_answers(task_of: Callable[..., Task]) -> None:
    """Without target labels: over all 24 validation images of the target."""
    task = task_of(unlabelled)
    drop = distillation.measure(task, fixed(task, [1.0, 0.0, 0.0]), fixed(task, [0.0, 1.0, 0.0]), np.array([]))
    assert Drop("agreement", 24, 0.0, None, 1.0) == drop


def test_a_bad_student_breaks_its_promise(task_of: Callable[..., Task]) -> None:
    """The guard says so, for the gate to hold it; the teacher's own guards come along, and what was measured."""
    task = task_of()
    strict, mild = (distill.Params(**QUICK, learning_rate=1e-9, max_drop=limit) for limit in (0.01, 1.0))
    record = distill.fit(task, strict, task.context).record
    assert not record.guards["distillation_drop_within_limit"]
    assert distill.fit(task, mild, task.context).record.guards["distillation_drop_within_limit"]
    assert record.measured["drop"] == record.measured["teacher_accuracy"] - record.measured["student_accuracy"]
    assert record.measured["student_mb"] == pytest.approx(0.58, abs=0.01)
    assert "is more than the 1.0% allowed." in record.sentences[-1]


def test_without_labels_the_teacher_is_what_is_compared_with(task_of: Callable[..., Task]) -> None:
    """No accuracy is claimed, and the last epoch is kept: source images cannot choose one."""
    task = task_of(unlabelled)
    record = distill.fit(task, distill.Params(**QUICK), task.context).record
    assert "it agrees with the teacher on" in record.sentences[-1]
    assert (record.val_accuracy, record.selection) == (None, "none")
    assert set(record.measured) == {"student_agreement", "drop", "teacher_mb", "student_mb"}


def test_the_student_has_a_size_and_a_backbone_of_its_own(task_of: Callable[..., Task]) -> None:
    """Its preprocessing comes with it and is kept with the weights; the section of the image is the teacher's."""
    task = task_of()
    params = distill.Params(**QUICK, student="mobilenet_v3_small", student_size_px=48)
    network, _, preprocessing, *_ = distill.fit(task, params, task.context)
    assert (48, "stretch", backbone("mobilenet_v3_small").preprocessing.mean) == (
        preprocessing.size_px,
        preprocessing.fit,
        preprocessing.mean,
    )
    kept = TrainedNetwork.of(
        network, preprocessing=preprocessing, classes=task.classes, strategy="distill", origin=task.backbone
    )
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), kept.build()(images))


@pytest.mark.parametrize(("teachers_px", "expected"), [(224, 64), (32, 32), (48, 48)])
def test_the_default_size_is_the_teachers_up_to_a_limit(teachers_px: int, expected: int) -> None:
    """small_cnn is made for 32 px and gets up to 64; the crop's share of the image stays."""
    teachers = backbone("resnet18").preprocessing.model_copy(update={"size_px": teachers_px, "resize_px": 256})
    found = distill._preprocessing(distill.Params(), teachers)
    assert (expected, round(256 * expected / teachers_px)) == (found.size_px, found.resize_px)


def test_the_teacher_keeps_its_checkpoints_apart(
    task_of: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own, with the task's seed: it is the network that it would be alone."""
    seen: list[Any] = []
    probe = plugins.load(distill.PACKAGE, "probe")
    real = probe.fit
    monkeypatch.setattr(probe, "fit", lambda task, params, context: seen.append(context) or real(task, params, context))
    task = task_of(scratch=tmp_path)
    distill.fit(task, distill.Params(**QUICK), task.context)
    assert [(tmp_path / "teacher", 0)] == [(context.scratch, context.seed) for context in seen]


def test_a_teacher_without_its_data_is_refused(task_of: Callable[..., Task]) -> None:
    """Before anything is trained, with the teacher's name."""
    task = task_of(unlabelled)
    needy = next(
        name
        for name in plugins.names(distill.PACKAGE)
        if name not in distill.NO_TEACHERS and "target_labels" in plugins.load(distill.PACKAGE, name).NEEDS
    )
    with pytest.raises(DataError, match=f"labelled target images for strategy '{needy}'"):
        distill.fit(task, distill.Params(teacher=needy), task.context)


def test_a_size_that_the_student_cannot_take_is_told(task_of: Callable[..., Task]) -> None:
    """Inception pools 32 px away to nothing."""
    task = task_of()
    with pytest.raises(ParamsError, match=r"made for 299 px; found 32 px\.\n.*student_size_px"):
        distill.fit(task, distill.Params(student="inception_v3", student_size_px=32), task.context)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"student": "smal_cnn"}, r"one of: small_cnn, resnet18[\s\S]*found 'smal_cnn'[\s\S]*Did you mean 'small_cnn'"),
        ({"teacher": "distill"}, r"a strategy that fits one network, one of: [\s\S]*probe"),
        ({"teacher": {"name": "prob"}}, r"found 'prob'[\s\S]*Did you mean 'probe'"),
        ({"teacher": {"name": "probe", "epochs": 3}}, r"epochs"),
    ],
)
def test_unknown_names_are_told(given: dict[str, Any], message: str) -> None:
    """What there is, and the nearest."""
    with pytest.raises(ParamsError, match=message):
        parse({"train": {"strategy": {"name": "distill", **given}}}, "params.yaml")


def test_the_schema_names_the_teachers() -> None:
    """Editors complete them; strategies that run others are not among them."""
    offered = distill.Params.model_json_schema()["properties"]["teacher"]["anyOf"][0]["enum"]
    assert sorted(set(plugins.names(distill.PACKAGE)) - set(distill.NO_TEACHERS)) == offered


def test_the_teachers_file_is_in_the_key() -> None:
    """Editing the teacher's strategy makes training stale; with another strategy there is no such file."""
    both, alone = (
        parse({"train": {"strategy": {"name": name}}}, "params.yaml").value("train.strategy.teacher.name")
        for name in ("distill", "probe")
    )
    assert ("lp_ft", None) == (both, alone)
