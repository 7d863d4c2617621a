"""The export stage on the toy domains: one file, and the proof beside it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.data.preprocessing import Preprocessing
from pipeline.serving.predictor import Predictor
from pipeline.stages import export

CLASSES = ["class0", "class1", "class2"]


@pytest.fixture(scope="module")
def network():
    """What the stage uses of a trained network."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    preprocessing = Preprocessing(size_px=16, resize_px=18)
    metadata = {"backbone": "tiny", "strategy": "probe"}
    return SimpleNamespace(
        build=lambda: module.eval().requires_grad_(False),
        preprocessing=preprocessing,
        classes=CLASSES,
        metadata=metadata,
    )


def test_exports_and_compares_on_the_test_images(network, toy_domains):
    """All twelve test images, labelled or not, at four batch sizes."""
    result = export.run(
        export.Params(),
        toy_domains.context(),
        network=network,
        label_space=toy_domains.labels,
        target_manifest=toy_domains.target,
    )
    parity = result.outputs["parity"]
    assert (12, "test", 0) == (parity.images, parity.split, parity.disagreements)
    assert [1, 2, 7, 32] == [batch.batch_size for batch in parity.batches]
    assert "equal answers on 12 test images" in result.line
    assert CLASSES == Predictor(result.outputs["model"]).classes


def test_without_test_images_training_images_are_compared_and_it_says_so(network, toy_domains):
    target = toy_domains.target
    result = export.run(
        export.Params(parity_images=5),
        toy_domains.context(),
        network=network,
        label_space=toy_domains.labels,
        target_manifest=target.split("train", "val"),
    )
    assert "on 5 train images" in result.line
    assert "train" == result.outputs["parity"].split


def test_torch_keeps_its_threads(network, toy_domains):
    """The comparison runs on one thread and gives the others back."""
    before = torch.get_num_threads()
    export.run(
        export.Params(parity_images=1),
        toy_domains.context(),
        network=network,
        label_space=toy_domains.labels,
        target_manifest=toy_domains.target,
    )
    assert before == torch.get_num_threads()
