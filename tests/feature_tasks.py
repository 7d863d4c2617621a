"""Tasks made of features alone: no image is decoded, no network computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core.context import Context
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights
from pipeline.training.options import EngineOptions
from pipeline.training.task import Labelled, Task, make_task

CLASSES = ["a", "b", "c"]
FEATURES = 256
"""Of small_cnn."""


def blobs(count: int, *, shift: float = 0.0, spread: float = 1.0, dimensions: int = 8, seed: int = 0) -> Labelled:
    """Three classes around fixed centres, all moved by ``shift``; labels go round in a circle."""
    random = np.random.default_rng([seed, count])
    labels = np.arange(count) % len(CLASSES)
    centres = np.random.default_rng(7).normal(0, 2, (len(CLASSES), dimensions))
    features = centres[labels] + shift + random.normal(0, spread, (count, dimensions))
    return Labelled(features.astype(np.float32), labels)


def feature_task(
    source: Labelled | None = None,
    target: Labelled | None = None,
    *,
    labelled: int | None = None,
    workspace: Path = Path("."),
    **columns: list[str],
) -> Task:
    """A task over these features, padded with zeros to small_cnn's; every fifth image is in val.

    Only the first ``labelled`` target images have a label, all by default. ``columns`` are the target's own.
    """
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    nothing = Labelled(np.zeros((0, 8), np.float32), np.zeros(0, np.int64))
    manifests, tables = zip(
        _domain("source", source or nothing, None, start, {}),
        _domain("target", target or nothing, labelled, start, columns),
        strict=True,
    )
    context = Context(workspace, seed=0, device="cpu")
    return make_task(start, LabelSpace(classes=CLASSES), *manifests, *tables, EngineOptions(), context)


def _domain(
    domain: str, data: Labelled, labelled: int | None, start: BackboneWeights, columns: dict[str, list[str]]
) -> tuple[Manifest, FeatureTable]:
    count = len(data)
    names = [f"{domain}{number:05d}" for number in range(count)]
    known = count if labelled is None else labelled
    labels = [CLASSES[label] if number < known else None for number, label in enumerate(data.labels)]
    split = ["val" if number % 5 == 4 and number < known else "train" for number in range(count)]
    frame = pd.DataFrame({"id": names, "name": names, "label": labels, "domain": domain, "split": split, **columns})
    features = np.zeros((count, FEATURES), np.float32)
    features[:, : data.features.shape[1]] = data.features
    facts = TableFacts(
        backbone=start.name,
        backbone_digest=start.digest,
        preprocessing_digest=start.preprocessing.digest,
        dtype="float32",
        count=count,
        feature_dim=FEATURES,
    )
    return Manifest.of(frame), FeatureTable(facts, names, features)
