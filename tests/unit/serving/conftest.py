"""A small network that reads the toy domains, exported once for all tests of serving."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.data.preprocessing import Preprocessing
from pipeline.serving.export import to_onnx
from pipeline.serving.onnx_file import OnnxFile

CLASSES = ["class0", "class1", "class2"]
PREPROCESSING = Preprocessing(size_px=24, resize_px=24, fit="stretch")


class TinyNet(nn.Module):
    """Convolution, BatchNorm with statistics of its own, pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(images)).relu().mean((2, 3)))


@pytest.fixture(scope="session")
def tiny_net() -> nn.Module:
    return TinyNet().eval().requires_grad_(False)


@pytest.fixture(scope="session")
def preprocessing() -> Preprocessing:
    return PREPROCESSING


@pytest.fixture(scope="session")
def tiny_model(tiny_net: nn.Module) -> OnnxFile:
    return to_onnx(tiny_net, PREPROCESSING, CLASSES, {"backbone": "tiny", "strategy": "probe"})
