"""The task: everything a strategy may use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pipeline.core import digests
from pipeline.core.context import Context
from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore
from pipeline.data.labels import LabelSpace
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.features.table import FeatureTable
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.network import Network, build_backbone
from pipeline.training.objectives import Images
from pipeline.training.options import EngineOptions
from pipeline.training.record import TrainingRecord, Trial

if TYPE_CHECKING:
    from pipeline.evaluation.domains import DomainReport

MIN_VAL_PER_CLASS = 3
"""With fewer validation images of some class, choices are made by cross-validation over train and val together."""


UNUSED = "No labelled image was used."

Origin = Literal["target", "source", "checkpoint"]
"""Where what is known of the classes comes from."""


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
    preprocessing: Preprocessing | None = None
    """Where the network wants its images prepared otherwise than the task's backbone does."""
    trials: Sequence[Trial] = ()
    """What each strategy cost that was tried on the way."""


@dataclass(frozen=True)
class Task:
    """Labelled images to learn from, the backbone, and the classes to tell apart.

    Labels are the target's; where the target has none, the source's take their place (its images of mapped classes).
    Where neither has any, the checkpoint's own head is all there is, and ``train`` and ``val`` are empty.
    ``holds_out`` says whether the validation split is large enough to choose on. If not, it joins the training
    images: ``fit_images`` then has both, ``val_images`` is None, early stopping is off and phases run all their epochs.
    """

    backbone: BackboneWeights
    label_space: LabelSpace
    labels_from: Origin
    train: Manifest
    val: Manifest
    target: Manifest
    """All images of the target's train and val splits, unlabelled ones included; never its test split."""
    source: Manifest
    """The labelled train and val images of the source, mapped classes only."""
    source_all: Manifest
    """The same with the source's other classes."""
    target_features: FeatureTable
    source_features: FeatureTable
    options: EngineOptions
    context: Context
    domains: DomainReport | None = None
    """How far the source is from the target, where both have images."""
    _banks: dict[str, ImageBank] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> list[str]:
        return self.label_space.classes

    @cached_property
    def holds_out(self) -> bool:
        """Is the validation split large enough to choose on?"""
        if not len(self.val):
            return False
        counts = np.bincount(self.val_set.labels, minlength=len(self.classes))
        known = np.bincount(self.train_set.labels, minlength=len(self.classes)) > 0
        return bool(counts[known].min() >= MIN_VAL_PER_CLASS)

    @property
    def source_is_held_out(self) -> bool:
        """Has the source's val split images that nothing of this task was fitted to?"""
        return len(self.source.split("val")) > 0 and (self.labels_from != "source" or self.holds_out)

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

    @cached_property
    def cross_validated(self) -> Manifest:
        """What is cross-validated where the labels are to choose: a validation split that can choose stays apart."""
        return self.train if self.holds_out else _both(self.train, self.val)

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Of the rows of :attr:`all_set`, as :attr:`Manifest.groups` has them."""
        return _both(self.train, self.val).groups

    @cached_property
    def source_set(self) -> Labelled:
        """The source's training images of mapped classes."""
        return self._source_set("train")

    @cached_property
    def source_val_set(self) -> Labelled:
        """The source's held-out images of mapped classes: what source retention is measured on."""
        return self._source_set("val")

    @cached_property
    def target_set(self) -> np.ndarray:
        """Features of all training images of the target, labelled or not, float32 [n, feature_dim]."""
        return self.target_features.of(self.target.split("train"))

    def _source_set(self, split: str) -> Labelled:
        part = self.source.split(split)
        return Labelled(self.source_features.of(part), self.label_space.indices(part.frame["label"]))

    def _labelled(self, manifest: Manifest) -> Labelled:
        table = self.source_features if self.labels_from == "source" else self.target_features
        return Labelled(table.of(manifest), self.label_space.indices(manifest.frame["label"]))

    @cached_property
    def fit_images(self) -> Images:
        """Pixels for gradient training."""
        return self._images(self.cross_validated)

    @cached_property
    def val_images(self) -> Images | None:
        """Pixels for early stopping; None where validation is too small to judge by."""
        if not self.holds_out:
            return None
        images = self._images(self.val)
        return Images(images.bank, images.labels, self._has_images_in(self.train_set))

    @cached_property
    def val_images_beside_source(self) -> Images | None:
        """The same for who learns from the source, too, which may teach a class that the target's labels do not."""
        if (images := self.val_images) is None:
            return None
        taught = self._has_images_in(self.train_set) | self._has_images_in(self.source_set)
        return Images(images.bank, images.labels, taught)

    def _has_images_in(self, data: Labelled) -> np.ndarray:
        """Of each class, bool [classes]."""
        return np.bincount(data.labels, minlength=len(self.classes)) > 0

    @cached_property
    def source_images(self) -> Images:
        """The source's training images of mapped classes."""
        return self._images(self.source.split("train"))

    @cached_property
    def source_val_images(self) -> Images:
        """The source's held-out images of mapped classes."""
        return self._images(self.source.split("val"))

    @cached_property
    def target_images(self) -> Images:
        """All training images of the target, without their labels."""
        return self.unlabelled(self.target.split("train"))

    def unlabelled(self, manifest: Manifest) -> Images:
        """The images of ``manifest`` without their labels."""
        return Images.unlabelled(self.bank(manifest))

    def _images(self, manifest: Manifest) -> Images:
        return Images(self.bank(manifest), self.label_space.indices(manifest.frame["label"]))

    def bank(self, manifest: Manifest) -> ImageBank:
        """The images of ``manifest``; asked for again, even under another seed, they are not decoded again.

        Before a new bank is made, older ones let go of what exceeds ``options.memory_mb`` together: `auto` asks for
        many.
        """
        key = digests.of_json(list(manifest.frame["id"]))
        if key not in self._banks:
            kept_mb = sum(bank.kept_mb for bank in self._banks.values())
            for bank in self._banks.values():
                if kept_mb <= self.options.memory_mb:
                    break
                kept_mb -= bank.kept_mb
                bank.forget()
            store = ImageStore(self.context.workspace, self.context.workers)
            self._banks[key] = ImageBank(manifest, store, self.backbone.preprocessing, budget_mb=self.options.memory_mb)
        return self._banks[key]

    def with_context(self, context: Context) -> Task:
        """The same task under another seed or scratch folder."""
        return replace(self, context=context)

    def without(self, ids: Collection[str]) -> Task:
        """The task as if the target images ``ids`` did not exist.

        Raises:
            DataError: fewer than two classes keep a labelled training image.
        """
        train, val, target = (part.where(~part.frame["id"].isin(ids)) for part in (self.train, self.val, self.target))
        return _checked(replace(self, train=train, val=val, target=target))

    def pretrained_network(self) -> Network:
        """The backbone as given under a fresh head of zeros."""
        return Network(self.backbone.name, self.backbone.build(), len(self.classes))

    def checkpoint_network(self) -> Network:
        """The backbone under the head that its checkpoint came with.

        Raises:
            WeightsError: it came with none, or with another number of classes.
        """
        from pipeline.core.errors import WeightsError

        head, classes = self.backbone.head, len(self.classes)
        if head is None or len(head["bias"]) != classes:
            raise WeightsError(
                expected=f"a checkpoint whose own head answers with the {classes} classes of the label space",
                found="one without a head" if head is None else f"one with {len(head['bias'])} outputs",
                where="backbone.weights and ingest.classes in params.yaml",
                remedy="Name the checkpoint's classes, in its order, in ingest.classes; or label some images.",
            )
        network = self.pretrained_network()
        network.set_head(head["weight"], head["bias"])
        return network

    def random_network(self) -> Network:
        """The same architecture with random weights, also under a head of zeros."""
        body = build_backbone(self.backbone.name, self.context.seed)
        return Network(self.backbone.name, body, len(self.classes))

    def record(
        self, params: Any, *, sentences: Sequence[str] = (), uses_labels: bool = True, **fields: Any
    ) -> TrainingRecord:
        """A record with everything filled in that the task knows; ``sentences`` follow the one on the images."""
        unlabelled = int(self.target.frame["label"].isna().sum())
        return TrainingRecord(
            strategy=params.name,
            params=params.model_dump(mode="json"),
            classes=self.classes,
            labels_from=self.labels_from,
            images={"train": len(self.train), "val": len(self.val), "unlabelled": unlabelled},
            sentences=[self._use_of_images() if uses_labels else UNUSED, *sentences],
            **fields,
        )

    def _use_of_images(self) -> str:
        if self.labels_from == "checkpoint":
            return "No image is labelled; what is known of the classes is the head that the checkpoint came with."
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
    domains: DomainReport | None = None,
) -> Task:
    """Choose where labels come from and leave out everything a strategy must not see.

    Raises:
        DataError: fewer than two classes have a labelled training image.
    """
    target = target_manifest.split("train", "val")
    source_all = source_manifest.split("train", "val").labelled
    source = source_all.where(source_all.frame["label"].isin(label_space.classes))
    labels_from: Origin = "target" if len(target.labelled.split("train")) else "source"
    if labels_from == "source" and not len(source) and backbone.head is not None:
        labels_from = "checkpoint"
    labelled = target.labelled if labels_from == "target" else source
    task = Task(
        backbone=backbone,
        label_space=label_space,
        labels_from=labels_from,
        train=labelled.split("train"),
        val=labelled.split("val"),
        target=target,
        source=source,
        source_all=source_all,
        target_features=target_features,
        source_features=source_features,
        options=options,
        context=context,
        domains=domains,
    )
    return _checked(task)


def _checked(task: Task) -> Task:
    known = sorted(set(task.train.frame["label"]))
    if len(known) < 2 and task.labels_from != "checkpoint":
        raise DataError(
            expected="labelled training images of at least two classes",
            found=f"{len(task.train)} labelled images of {len(known)} class(es) in the {task.labels_from} domain",
            where="ingest.target and ingest.source in params.yaml",
            remedy="Label a few images of each class, or add a labelled source.",
        )
    return task
