"""A checkpoint, its classes, and images without a label: all that a team has where the source is secret."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core.context import Context, Result
from pipeline.core.errors import DataError, WeightsError
from pipeline.evaluation.domains import DomainReport
from pipeline.models.backbones import backbone as row_of
from pipeline.models.network import Network, TrainedNetwork, build_backbone
from pipeline.stages import backbone, features, ingest, train

CLASSES = ["left", "middle", "right"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """30 images in one flat folder, and a trained network of three classes."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(30):
        pixels = random.integers(0, 90, (20, 24, 3)).astype(np.uint8)
        pixels[:, 4 + 6 * (number % 3) : 8 + 6 * (number % 3)] = 180
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    network = Network("small_cnn", build_backbone("small_cnn", 1), len(CLASSES))
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    origin = SimpleNamespace(digest="0" * 64, origin="elsewhere")
    preprocessing = row_of("small_cnn").preprocessing
    TrainedNetwork.of(network, preprocessing=preprocessing, classes=CLASSES, strategy="full", origin=origin).save(
        tmp_path / "checkpoint"
    )
    return tmp_path


def run(workspace: Path, strategy: str, classes: list[str] | None) -> Result:
    """The stages from ingest to train; the inventories are what validate lets through."""
    (workspace / "scratch").mkdir(exist_ok=True)
    context = Context(workspace, seed=0, device="cpu", workers=1, scratch=workspace / "scratch")
    folder = {"name": "image_folder", "path": "photos"}
    seen = ingest.run(ingest.Params(target=folder, source=None, classes=classes), context).outputs
    weights = backbone.Params(weights={"file": "checkpoint/weights.safetensors"})
    manifests: dict[str, Any] = {f"{domain}_manifest": seen[f"{domain}_inventory"] for domain in ("source", "target")}
    start = backbone.run(weights, context).outputs["backbone"]
    tables = features.run(features.Params(), context, backbone=start, **manifests).outputs
    params = train.Params(strategy=strategy, batch_size=8, min_steps_per_epoch=1)
    given = {"label_space": seen["label_space"], "domains": DomainReport(), **manifests, **tables}
    return train.run(params, context, backbone=start, **given)


def test_shot_needs_no_more_than_a_checkpoint_and_images(workspace: Path) -> None:
    """It answers with the checkpoint's classes, in its order, under its head."""
    outputs = run(workspace, "shot", CLASSES).outputs
    before = TrainedNetwork.load(workspace / "checkpoint").state["head.weight"]
    assert CLASSES == outputs["network"].classes
    assert torch.equal(before, outputs["network"].state["head.weight"])
    assert "checkpoint" == outputs["training"].labels_from
    assert "target images that the network was surest of" in outputs["training"].sentences[1]


def test_without_class_names_ingest_says_where_to_name_them(workspace: Path) -> None:
    """Nothing else says what the checkpoint's outputs mean."""
    with pytest.raises(
        DataError, match=r"where a checkpoint's own head shall answer, name its classes in ingest.classes"
    ):
        run(workspace, "shot", None)


def test_class_names_must_be_as_many_as_the_checkpoints_outputs(workspace: Path) -> None:
    """Both numbers, and where to correct them."""
    with pytest.raises(WeightsError) as refusal:
        run(workspace, "shot", [*CLASSES, "behind"])
    assert "the 4 classes of the label space; found one with 3 outputs" in str(refusal.value)
    assert "Name the checkpoint's classes, in its order, in ingest.classes" in refusal.value.remedy


def test_a_strategy_that_learns_from_labels_is_refused(workspace: Path) -> None:
    """Before it starts."""
    with pytest.raises(DataError, match=r"labelled images .* for strategy 'probe'; found none"):
        run(workspace, "probe", CLASSES)
