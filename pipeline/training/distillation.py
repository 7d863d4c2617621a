"""Distillation: a small student learns to answer as a teacher does (Hinton, Vinyals and Dean, 2015)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.device import choose
from pipeline.core.progress import track
from pipeline.data.images import ImageStore
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.network import Network
from pipeline.training.objectives import UNLABELLED, Batch, Images, Objective
from pipeline.training.phases import Phase
from pipeline.training.task import Task

BATCH = 256


class Distillation(Objective):
    """mean_i( α·T²·KL(softmax(t_i / T) ‖ softmax(s_i / T)) + (1 − α)·[i has a label]·(−log softmax(s_i)[y_i]) )

    with the teacher's logits t [n, C], kept by row, and the student's s. T² undoes what dividing by T does to the
    gradient, so that α means the same at every T.
    """

    answers: Tensor

    def __init__(self, answers: np.ndarray, *, temperature: float, alpha: float) -> None:
        super().__init__()
        self.register_buffer("answers", torch.from_numpy(answers), persistent=False)
        self.temperature, self.alpha = temperature, alpha

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        logits = network(batch.images)
        soft = self.temperature**2 * functional.kl_div(
            (logits / self.temperature).log_softmax(dim=1),
            (self.answers[batch.rows] / self.temperature).log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )
        hard = functional.cross_entropy(
            logits, batch.labels, ignore_index=UNLABELLED, label_smoothing=phase.label_smoothing, reduction="sum"
        ) / len(logits)
        return {"loss": self.alpha * soft + (1 - self.alpha) * hard, "soft": soft, "hard": hard}


class Drop(NamedTuple):
    """What is lost from teacher to student, on images that the student was not trained on."""

    by: Literal["accuracy", "agreement"]
    """``agreement`` where the target's validation labels are too few to judge by: the share of equal answers."""
    images: int
    student: float
    """The student's accuracy, or its agreement with the teacher."""
    teacher: float | None
    """The teacher's accuracy."""
    value: float
    """Accuracy lost, or share of answers that differ, which accuracy cannot fall by more than."""


def images_of(task: Task, manifest: Manifest, labels: np.ndarray, preprocessing: Preprocessing) -> Images:
    """Images as the student sees them."""
    store = ImageStore(task.context.workspace, task.context.workers)
    return Images(ImageBank(manifest, store, preprocessing, budget_mb=task.options.memory_mb), labels)


def pupils(task: Task, few: int) -> tuple[Manifest, np.ndarray]:
    """What the student learns from, and class numbers int64 [n], ``UNLABELLED`` where only the teacher speaks.

    All training images of the target; those of the source too where it has the labels or the target has less than
    ``few``. A source label counts only where labels are the source's anyway.
    """
    target, source = task.target.split("train"), task.source.split("train")
    joins = task.labels_from == "source" or len(target) < few
    parts = [target, *([source] if joins and len(source) else [])]
    labels = [_labels(task, part, domain) for part, domain in zip(parts, ("target", "source"), strict=False)]
    return _joined(parts), np.concatenate(labels)


def _labels(task: Task, manifest: Manifest, domain: str) -> np.ndarray:
    labels = np.full(len(manifest), UNLABELLED, dtype=np.int64)
    known = manifest.frame["label"].notna().to_numpy()
    if domain == task.labels_from:
        labels[known] = task.label_space.indices(manifest.labelled.frame["label"])
    return labels


def _joined(parts: list[Manifest]) -> Manifest:
    import pandas as pd

    return parts[0] if len(parts) == 1 else Manifest(pd.concat([part.frame for part in parts], ignore_index=True))


@torch.no_grad()
def answers(task: Task, network: Network, manifest: Manifest, preprocessing: Preprocessing, *, who: str) -> np.ndarray:
    """Logits of plain views, float32 [n, classes]; images are decoded as they are needed and not kept."""
    device = choose(task.context.device)
    bank = ImageBank(manifest, ImageStore(task.context.workspace, task.context.workers), preprocessing, budget_mb=0)
    network.to(device).eval()
    chunks = np.array_split(np.arange(len(bank)), max(1, math.ceil(len(bank) / BATCH)))
    found = [
        network(views).float().cpu().numpy()
        for views in track(bank.plain_views(chunks, device), what=who, unit="batches", total=len(chunks))
    ]
    network.to("cpu")
    return np.concatenate(found)


def measure(
    task: Task,
    teacher: tuple[Network, Preprocessing],
    student: tuple[Network, Preprocessing],
    labels: np.ndarray,
    *,
    teachers_accuracy: float | None = None,
) -> Drop:
    """Compare the two on the target's validation images, none of which the student was trained on.

    By accuracy where these are enough to choose by; else by agreement, on the target's training images if there are no
    others. ``labels`` are those of ``task.val``. ``teachers_accuracy`` is what its own record claims for them: some
    strategies are at last fitted to these images too, so that asking the network again would flatter it.
    """
    by_accuracy = task.labels_from == "target" and task.holds_out
    held_out = task.val if by_accuracy else task.target.split("val")
    if not len(held_out):
        held_out = task.target.split("train")
    taught, learned = (
        answers(task, network, held_out, preprocessing, who=who).argmax(axis=1)
        for who, (network, preprocessing) in (("teacher", teacher), ("student", student))
    )
    if not by_accuracy:
        agreement = float((taught == learned).mean())
        return Drop("agreement", len(held_out), agreement, None, 1 - agreement)
    teachers = float((taught == labels).mean()) if teachers_accuracy is None else teachers_accuracy
    students = float((learned == labels).mean())
    return Drop("accuracy", len(held_out), students, teachers, teachers - students)
