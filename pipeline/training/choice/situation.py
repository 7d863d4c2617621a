"""What a team has (labels, a source, how far it is), and which strategies are worth trying on it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from pipeline.training.classifiers.folds import stratified
from pipeline.training.task import Task

Labels = Literal["none", "few", "some", "many"]
Nearness = Literal["near", "middle", "far"]

ENOUGH_PER_CLASS = 10
"""Labelled target images per class from which on cross-validation on them decides."""

FOLDS = 3
"""Of that cross-validation; where the labels, or the groups they come in, make fewer, they do not decide."""

MANY_PER_CLASS = 20

NEARER: dict[Nearness, tuple[Nearness, ...]] = {
    "near": ("near",),
    "middle": ("near", "middle"),
    "far": ("near", "middle", "far"),
}
"""A farther source is worth what a nearer one is worth trying, and more."""

WITHOUT_LABELS: dict[Nearness, tuple[str, ...]] = {
    "near": ("standardise", "linear_ot", "coral", "adabn", "shot", "mcc"),
    "middle": ("selftrain",),
    "far": ("dann", "cdan"),
}
"""A labelled source, an unlabelled target."""

WITHOUT_SOURCE: dict[Nearness, tuple[str, ...]] = {"near": ("adabn", "tent"), "middle": ("shot",), "far": ()}
"""A checkpoint with its own head, an unlabelled target."""

FEW_LABELS: dict[Nearness, tuple[str, ...]] = {
    "near": ("class_mean", "probe", "label_propagation"),
    "middle": ("lp_ft",),
    "far": ("partial",),
}
"""Few, for each more makes it harder to be sure of any. Ridge and LDA come with ten labels per class."""

WITH_A_SOURCE: dict[Nearness, tuple[str, ...]] = {
    "near": ("standardise", "linear_ot", "instance", "multitask"),
    "middle": ("mcc",),
    "far": (),
}
"""Besides, where labelled source images agree with the few target labels. A far source is left out with labels."""

MORE_LABELS: tuple[str, ...] = ("ridge", "lda", "probe", "svm", "label_propagation", "lp_ft", "partial")
"""The closed forms first: they take seconds whatever the number of images."""

MANY_LABELS: tuple[str, ...] = ("full",)


class Situation(NamedTuple):
    """What decides which strategies are tried."""

    labels: Labels
    per_class: int
    """Labelled target images of the rarest class that has any."""
    source: bool
    """Are there labelled source images of the target's classes?"""
    source_misleads: bool
    """Do the target's labels contradict what was learned from the source?"""
    nearness: Nearness
    folds: int = FOLDS
    """That the target's labels make, in their groups, if they have any; :data:`FOLDS` at most."""

    @classmethod
    def of(cls, task: Task, *, source_misleads: bool = False) -> Situation:
        per_class = _rarest(task) if task.labels_from == "target" else 0
        labels: Labels = "none"
        if per_class:
            labels = "few" if per_class < ENOUGH_PER_CLASS else "some" if per_class <= MANY_PER_CLASS else "many"
        return cls(
            labels=labels,
            per_class=per_class,
            source=len(task.source.split("train")) > 0,
            source_misleads=source_misleads,
            nearness=(task.domains.nearness if task.domains is not None else None) or "middle",
            folds=_folds(task) if per_class else 0,
        )

    @property
    def labels_decide(self) -> bool:
        """Is cross-validation on the target's labels to choose?"""
        return self.per_class >= ENOUGH_PER_CLASS and self.folds == FOLDS

    @property
    def candidates(self) -> tuple[str, ...]:
        """Strategies to try beside the baseline, cheap ones first."""
        near_enough = NEARER[self.nearness]
        if self.labels == "none":
            table = WITHOUT_LABELS if self.source else WITHOUT_SOURCE
            return _up_to(table, near_enough)
        with_source = () if not self.source or self.source_misleads else _with_source(self.nearness)
        if self.labels == "few":
            return (*_up_to(FEW_LABELS, near_enough), *with_source)
        return (*MORE_LABELS, *with_source, *(MANY_LABELS if self.labels == "many" else ()))

    @property
    def sentence(self) -> str:
        """What there is, for people."""
        images = "image" if self.per_class == 1 else "images"
        labels = f"{self.per_class} labelled {images} of its rarest class" if self.per_class else "no labelled image"
        source = f"a source ({self.nearness})" if self.source else "no source"
        if self.source_misleads:
            source = "a source whose labels contradict the target's"
        return f"The target has {labels}; there is {source}."


def _folds(task: Task) -> int:
    judged = task.cross_validated
    return len(stratified(task.label_space.indices(judged.frame["label"]), judged.groups, FOLDS, seed=0))


def _rarest(task: Task) -> int:
    counts = np.bincount(task.all_set.labels, minlength=len(task.classes))
    return int(counts[counts > 0].min())


def _up_to(table: dict[Nearness, tuple[str, ...]], near_enough: tuple[Nearness, ...]) -> tuple[str, ...]:
    return tuple(name for nearness in near_enough for name in table[nearness])


def _with_source(nearness: Nearness) -> tuple[str, ...]:
    return () if nearness == "far" else _up_to(WITH_A_SOURCE, NEARER[nearness])
