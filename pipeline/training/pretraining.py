"""Pretraining a backbone: on the source's labels, or on the images of both domains without any."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from pipeline.core.context import Context
from pipeline.core.device import choose
from pipeline.core.errors import DataError
from pipeline.core.seeding import derive
from pipeline.data.images import ImageStore
from pipeline.data.labels import LabelSpace
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.network import Network, build_backbone
from pipeline.training.batch_norm import reestimate
from pipeline.training.engine import fit, score_on
from pipeline.training.objectives import Images
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase
from pipeline.training.pretext import Autoencoder, Pretext, Rotation


class Start(NamedTuple):
    """What pretraining begins with."""

    name: str
    preprocessing: Preprocessing
    weights: BackboneWeights | None = None
    """None begins with random ones."""

    def network(self, classes: int, seed: int) -> Network:
        body = build_backbone(self.name, seed) if self.weights is None else self.weights.build()
        return Network(self.name, body, classes)

    def origin(self, how: str) -> str:
        """Where weights come from that were pretrained like that."""
        return how if self.weights is None else f"{self.weights.origin}, then {how}"


class Course(NamedTuple):
    """How long and how fast; rates are peak rates."""

    epochs: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.0


class Pretrained(NamedTuple):
    """The weights, and a clause on how they came about and what was reached."""

    weights: BackboneWeights
    told: str


def supervised(
    start: Start, source: Manifest | None, options: EngineOptions, context: Context, course: Course
) -> Pretrained:
    """Train on the labels of the source's train split; the epoch with the best validation loss stays.

    All of the source's classes take part, those the target does not have included.

    Raises:
        DataError: there are no labelled source images of two classes or more.
    """
    labelled = (source or Manifest.empty()).labelled
    train, val = labelled.split("train"), labelled.split("val")
    classes = sorted(set(train.frame["label"]))
    if len(classes) < 2:
        raise DataError(
            expected="labelled source images of at least two classes to pretrain on",
            found=f"{len(train)} of {len(classes)} class(es)",
            where="backbone.weights: pretrain in params.yaml",
            remedy="Name a labelled source under ingest.source, set backbone.weights to pretrained weights, or "
            "backbone.pretrain.objective to one that needs no labels: autoencoder or rotation.",
        )
    network = start.network(len(classes), context.seed)
    phase = Phase(
        name="pretrain",
        epochs=course.epochs,
        learning_rates=dict.fromkeys(network.groups, course.learning_rate),
        weight_decay=course.weight_decay,
        label_smoothing=course.label_smoothing,
        batch_norm="train",
    )
    space = LabelSpace(classes=classes)
    fit_images = _images(train, space.indices(train.frame["label"]), start, options, context)
    known = val.where(val.frame["label"].isin(classes))
    held_out = _images(known, space.indices(known.frame["label"]), start, options, context)
    fit(network, [phase], fit_images, held_out, options, context, name="pretrain")
    accuracy = score_on(context.device, network, held_out).accuracy if len(held_out) else None
    weights = BackboneWeights.of(
        start.name,
        network.backbone.state_dict(),
        preprocessing=start.preprocessing,
        origin=start.origin("pretrained on the source domain"),
        source_accuracy=accuracy,
        pretrained_on_source=True,
        head=dict(network.head.state_dict()),
    )
    judged = "" if accuracy is None else f" · source validation accuracy {accuracy:.1%}"
    return Pretrained(weights, f"pretrained on {len(train):,} source images{judged}")


def unsupervised(
    objective: Literal["autoencoder", "rotation"],
    start: Start,
    domains: list[Manifest],
    options: EngineOptions,
    context: Context,
    course: Course,
) -> Pretrained:
    """Train on all images of the domains' train splits, whatever their labels; the last epoch stays.

    BatchNorm statistics are at last those of the images as they are, neither masked nor rotated.

    Raises:
        DataError: there are fewer than two images.
    """
    train, held_out = (_of_all(domains, split, start, options, context) for split in ("train", "val"))
    if len(train) < 2:
        raise DataError(
            expected="training images of the source or the target to pretrain on",
            found=str(len(train)),
            where="backbone.pretrain.objective in params.yaml",
            remedy="Add images under ingest.target or ingest.source, or set backbone.weights to pretrained weights.",
        )
    network = start.network(1, context.seed)
    pretext = _pretext(objective, held_out, start, course.learning_rate, context.seed)
    phase = Phase(
        name=objective,
        epochs=course.epochs,
        learning_rates={**dict.fromkeys(network.row.blocks, course.learning_rate), "head": None},
        weight_decay=course.weight_decay,
        batch_norm="train",
        keep="last",
    )
    fit(network, [phase], train, None, options, context, objective=pretext, name="pretrain")
    judged = _finish(network, pretext, train, context)
    how = {"autoencoder": "pretrained as an autoencoder", "rotation": "pretrained on rotations"}[objective]
    weights = BackboneWeights.of(
        start.name,
        network.backbone.state_dict(),
        preprocessing=start.preprocessing,
        origin=start.origin(f"{how}, without labels"),
    )
    return Pretrained(weights, f"{how} of {len(train):,} images, labels unused{judged}")


def _pretext(objective: str, held_out: Images, start: Start, rate: float, seed: int) -> Pretext:
    features = backbone(start.name).feature_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "pretext", objective))
        if objective == "autoencoder":
            return Autoencoder(held_out, rate, features, start.preprocessing.size_px)
        return Rotation(held_out, rate, features)


def _finish(network: Network, pretext: Pretext, train: Images, context: Context) -> str:
    """Statistics of plain images, and what the held-out ones then say."""
    device = choose(context.device)
    network.to(device).eval()
    pretext.to(device).eval()
    reestimate(network, train, device)
    reached = pretext.reached(network, device) if len(pretext.held_out) else None
    network.to("cpu")
    return "" if reached is None else f" · {pretext.told(reached)}"


def _of_all(domains: list[Manifest], split: str, start: Start, options: EngineOptions, context: Context) -> Images:
    """The split's images of all domains, without their labels."""
    import pandas as pd

    joined = Manifest(pd.concat([domain.split(split).frame for domain in domains], ignore_index=True))
    return Images.unlabelled(_bank(joined, start, options, context))


def _images(manifest: Manifest, labels: np.ndarray, start: Start, options: EngineOptions, context: Context) -> Images:
    return Images(_bank(manifest, start, options, context), labels)


def _bank(manifest: Manifest, start: Start, options: EngineOptions, context: Context) -> ImageBank:
    store = ImageStore(context.workspace, context.workers)
    return ImageBank(manifest, store, start.preprocessing, budget_mb=options.memory_mb)
