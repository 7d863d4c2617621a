"""Pretraining a backbone on the source domain's labels."""

from __future__ import annotations

from pipeline.core.context import Context
from pipeline.core.device import choose
from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore
from pipeline.data.labels import LabelSpace
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.network import Network, build_backbone
from pipeline.training.engine import LabelledImages, fit, score
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase


def pretrain(
    name: str,
    source: Manifest | None,
    preprocessing: Preprocessing,
    options: EngineOptions,
    context: Context,
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
) -> tuple[BackboneWeights, int]:
    """Train ``name`` from random weights on the source's train split; the epoch with the best validation loss stays.

    All of the source's classes take part, those the target does not have included. Returns the weights and the number
    of training images.

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
            remedy="Name a labelled source under ingest.source, or set backbone.weights to pretrained weights.",
        )
    network = Network(name, build_backbone(name, context.seed), len(classes))
    phase = Phase(
        name="pretrain",
        epochs=epochs,
        learning_rates=dict.fromkeys(network.groups, learning_rate),
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        batch_norm="train",
    )
    held_out = _images(val.where(val.frame["label"].isin(classes)), classes, preprocessing, options, context)
    fit(
        network,
        [phase],
        _images(train, classes, preprocessing, options, context),
        held_out,
        options,
        context,
        name="pretrain",
    )
    accuracy = score(network, held_out, choose("cpu"), batch_size=256).accuracy if len(held_out) else None
    weights = BackboneWeights.of(
        name,
        network.backbone.state_dict(),
        preprocessing=preprocessing,
        origin="pretrained on the source domain",
        source_accuracy=accuracy,
    )
    return weights, len(train)


def _images(
    manifest: Manifest, classes: list[str], preprocessing: Preprocessing, options: EngineOptions, context: Context
) -> LabelledImages:
    store = ImageStore(context.workspace, context.workers)
    bank = ImageBank(manifest, store, preprocessing, budget_mb=options.memory_mb)
    return LabelledImages(bank, LabelSpace(classes=classes).indices(manifest.frame["label"]))
