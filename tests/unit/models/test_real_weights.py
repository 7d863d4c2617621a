"""Checkpoints as they are found in the wild; skipped where the real data are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import WeightsError
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import from_file

REAL_DATA = Path(os.environ.get("GRAFTLINE_REALDATA", Path(__file__).parents[4] / "shared" / "data"))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not (REAL_DATA / "weights").is_dir(), reason=f"no real weights in {REAL_DATA}"),
]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18.safetensors"),  # stored as fp16
        ("mobilenet_v2", "mobilenet_v2.safetensors"),
        ("mobilenet_v2", "mobilenet_v2_inat_bird.safetensors"),
    ],
)
def test_loads_as_single_precision_whatever_its_classes(name: str, file: str) -> None:
    """fp16 and other label sets are no obstacle; the published head is left out."""
    row = backbone(name)
    weights = from_file(name, REAL_DATA / "weights" / file, row.preprocessing, origin="file", where="here")
    with torch.inference_mode():
        features = weights.build()(torch.zeros(1, 3, 64, 64))
    assert features.dtype == torch.float32
    assert bool(features.isfinite().all())


def test_another_architecture_is_refused() -> None:
    """ResNet-18's file is not ResNet-34's, and the message says what lacks."""
    file = REAL_DATA / "weights" / "resnet18.safetensors"
    with pytest.raises(
        WeightsError, match=r"the \d+ tensors of resnet34; found resnet18.safetensors that lacks layer1"
    ):
        from_file("resnet34", file, backbone("resnet34").preprocessing, origin="file", where="here")
