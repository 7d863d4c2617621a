"""The task: everything a strategy may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.core.context import Context
from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore
from pipeline.data.labels import LabelSpace
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.features.table import FeatureTable
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.network import Network, build_backbone
from pipeline.training.engine import LabelledImages
from pipeline.training.options import EngineOptions
from pipeline.training.record import TrainingRecord

MIN_VAL_PER_CLASS = 3
"""With fewer validation images of some class, choices are made by cross-validation over train and val together."""


class Labelled(NamedTuple):
    """Features float32 [n, feature_dim] and class numbers int64 [n]."""

    features: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Fitted(NamedTuple):
    """What a strategy returns."""

    network: Network
    record: TrainingRecord


@dataclass(frozen=True)
class Task:
    """Labelled images to learn from, the backbone, and the classes to tell apart.

    Labels are the target's; where the target has none, the source's take their place (its images of mapped classes).
    ``holds_out`` says whether the validation split is large enough to choose on. If not, it joins the training
    images: ``fit_images`` then has both, ``val_images`` is None, early stopping is off and phases run all their epochs.
    """

    backbone: BackboneWeights
    label_space: LabelSpace
    labels_from: Literal["target", "source"]
    train: Manifest
    val: Manifest
    target: Manifest
    """All images of the target's train and val splits, unlabelled ones included; never its test split."""
    source: Manifest
    """The labelled train and val images of the source, mapped classes only."""
    target_features: FeatureTable
    source_features: FeatureTable
    options: EngineOptions
    context: Context

    @property
    def classes(self) -> list[str]:
        return self.label_space.classes

    @cached_property
    def holds_out(self) -> bool:
        """Is the validation split large enough to choose on?"""
        counts = np.bincount(self.val_set.labels, minlength=len(self.classes))
        known = np.bincount(self.train_set.labels, minlength=len(self.classes)) > 0
        return bool(len(self.val) and counts[known].min() >= MIN_VAL_PER_CLASS)

    @cached_property
    def train_set(self) -> Labelled:
        return self._labelled(self.train)

    @cached_property
    def val_set(self) -> Labelled:
        return self._labelled(self.val)

    @cached_property
    def all_set(self) -> Labelled:
        """Train and val together."""
        parts = (self.train_set, self.val_set)
        return Labelled(*(np.concatenate([part[column] for part in parts]) for column in (0, 1)))

    def _labelled(self, manifest: Manifest) -> Labelled:
        table = self.target_features if self.labels_from == "target" else self.source_features
        return Labelled(table.of(manifest), self.label_space.indices(manifest.frame["label"]))

    @cached_property
    def fit_images(self) -> LabelledImages:
        """Pixels for gradient training."""
        return self._images(self.train) if self.holds_out else self._images(_both(self.train, self.val))

    @cached_property
    def val_images(self) -> LabelledImages | None:
        """Pixels for early stopping; None where validation is too small to judge by."""
        return self._images(self.val) if self.holds_out else None

    def _images(self, manifest: Manifest) -> LabelledImages:
        store = ImageStore(self.context.workspace, self.context.workers)
        bank = ImageBank(manifest, store, self.backbone.preprocessing, budget_mb=self.options.memory_mb)
        return LabelledImages(bank, self.label_space.indices(manifest.frame["label"]))

    def pretrained_network(self) -> Network:
        """The backbone as given under a fresh head of zeros."""
        return Network(self.backbone.name, self.backbone.build(), len(self.classes))

    def random_network(self) -> Network:
        """The same architecture with random weights, also under a head of zeros."""
        body = build_backbone(self.backbone.name, self.context.seed)
        return Network(self.backbone.name, body, len(self.classes))

    def record(self, params: Any, *, sentences: Sequence[str] = (), **fields: Any) -> TrainingRecord:
        """A record with everything filled in that the task knows; ``sentences`` follow the one on the images."""
        unlabelled = int(self.target.frame["label"].isna().sum())
        return TrainingRecord(
            strategy=params.name,
            params=params.model_dump(mode="json"),
            classes=self.classes,
            labels_from=self.labels_from,
            images={"train": len(self.train), "val": len(self.val), "unlabelled": unlabelled},
            sentences=[self._use_of_images(), *sentences],
            **fields,
        )

    def _use_of_images(self) -> str:
        why = "" if self.labels_from == "target" else ", as the target has no labels"
        if self.holds_out:
            return (
                f"{len(self.train):,} labelled {self.labels_from} images were trained on{why}; "
                f"{len(self.val):,} more were held out to choose by."
            )
        return (
            f"{len(self.train) + len(self.val):,} labelled {self.labels_from} images were trained on{why}, the "
            f"{len(self.val):,} of the validation split among them: too few to choose by."
        )


def _both(first: Manifest, second: Manifest) -> Manifest:
    import pandas as pd

    return Manifest(pd.concat([first.frame, second.frame], ignore_index=True))


def make_task(
    backbone: BackboneWeights,
    label_space: LabelSpace,
    source_manifest: Manifest,
    target_manifest: Manifest,
    source_features: FeatureTable,
    target_features: FeatureTable,
    options: EngineOptions,
    context: Context,
) -> Task:
    """Choose where labels come from and leave out everything a strategy must not see.

    Raises:
        DataError: fewer than two classes have a labelled training image.
    """
    target = target_manifest.split("train", "val")
    source = _in_classes(source_manifest.split("train", "val"), label_space)
    labels_from: Literal["target", "source"] = "target" if len(target.labelled) else "source"
    labelled = target.labelled if labels_from == "target" else source
    task = Task(
        backbone=backbone,
        label_space=label_space,
        labels_from=labels_from,
        train=labelled.split("train"),
        val=labelled.split("val"),
        target=target,
        source=source,
        target_features=target_features,
        source_features=source_features,
        options=options,
        context=context,
    )
    _check_classes(task)
    return task


def _in_classes(manifest: Manifest, label_space: LabelSpace) -> Manifest:
    return manifest.where(manifest.frame["label"].isin(label_space.classes))


def _check_classes(task: Task) -> None:
    known = sorted(set(task.train.frame["label"]))
    if len(known) < 2:
        raise DataError(
            expected="labelled training images of at least two classes",
            found=f"{len(task.train)} labelled images of {len(known)} class(es) in the {task.labels_from} domain",
            where="ingest.target and ingest.source in params.yaml",
            remedy="Label a few images of each class, or add a labelled source.",
        )
