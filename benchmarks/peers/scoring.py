"""What the peers on torch share: the weight file laid out as torchvision's download, and a plain score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torchvision.models import ResNet18_Weights


def float32_weights(file: Path) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's resnet18; the file may hold halves. Counters of BatchNorm stay integers."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()}


def lay_out_as_download(file: Path, home: Path) -> None:
    """Put the weights where torchvision keeps what it has downloaded, so that ``weights="DEFAULT"`` finds them."""
    os.environ["TORCH_HOME"] = str(home)
    place = home / "hub" / "checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.save(float32_weights(file), place)


def accuracy(
    logits_of: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> float:
    """Share of right answers, in [0, 1]. ``logits_of``: images [n, 3, height, width] to logits [n, classes]."""
    right = total = 0
    with torch.inference_mode():
        for images, labels in batches:
            right += int((logits_of(images).argmax(dim=1) == labels).sum())
            total += len(labels)
    return right / total
