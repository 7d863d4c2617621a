"""A small convolutional network for small images: needs no download and trains in seconds per epoch on one core."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, BatchNorm, ReLU. No bias: BatchNorm would cancel it."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SmallCNN(nn.Module):
    """VGG's pattern in miniature: float [B, 3, H, W] → logits [B, classes]; 256 features before the head.

    Features are the mean and the maximum over the last map, side by side (fastai's concat-pool): the mean says how
    much of a pattern there is, the maximum whether it is there at all; small probes profit from having both.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(_unit(3, 16), nn.MaxPool2d(2))
        self.stage1 = nn.Sequential(_unit(16, 32), _unit(32, 32), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(_unit(32, 64), _unit(64, 64), nn.MaxPool2d(2))
        self.stage3 = nn.Sequential(_unit(64, 128))
        self.head: nn.Module = nn.Linear(256, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1))


def small_cnn(num_classes: int = 10) -> SmallCNN:
    return SmallCNN(num_classes)
