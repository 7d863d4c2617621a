"""Pretraining without labels: what a backbone can learn from images alone.

Both objectives train the backbone through a part of their own (a decoder, a rotation head) that is thrown away at last.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.network import Network
from pipeline.training.objectives import Batch, Images, Judgement, Objective
from pipeline.training.phases import Phase

LARGEST_PX = 64
"""Side of the largest image that the decoder paints."""

MASKED = 0.25
"""Share of pixels that the autoencoder does not see."""

BATCH = 256

TURNS = 4
"""Rotations by 0, 90, 180 and 270 degrees."""


class Pretext(Objective):
    """A task that images set by themselves; ``held_out`` is what it is judged on after each epoch."""

    measure: str
    """What :meth:`judge` measures, as the curves name it."""

    def __init__(self, held_out: Images, learning_rate: float) -> None:
        super().__init__()
        self.held_out, self.learning_rate = held_out, learning_rate

    @abstractmethod
    def reached(self, network: Network, device: torch.device) -> float | None:
        """The measure on the held-out images, without augmentation; network and objective are in eval mode. None where
        these cannot tell."""

    @abstractmethod
    def told(self, value: float) -> str:
        """``value`` in words, for the stage's line."""

    def judge(self, network: Network, device: torch.device) -> Judgement:
        if not len(self.held_out):
            return Judgement()
        self.eval()
        value = self.reached(network, device)
        return Judgement({} if value is None else {self.measure: value})

    def _views(self, device: torch.device) -> Iterator[Tensor]:
        """Plain views of the held-out images, in batches."""
        count = len(self.held_out)
        return self.held_out.bank.plain_views(np.array_split(np.arange(count), -(-count // BATCH)), device)


ROUNDING = 1e-9
"""Share of a sum of squares that its difference from another, in double precision, may be and mean nothing."""


class Autoencoder(Pretext):
    """Denoising: paint the whole image from the features of one whose pixels are partly masked.

    Vincent et al., "Stacked Denoising Autoencoders" (JMLR 2010). With masks m [B, 1, S, S] of zeros and ones, and the
    image x [B, 3, S, S] scaled to x′ [B, 3, s, s] (s a power of two, at most 64):
        mean over all values of ( decoder(backbone(m · x)) − x′ )²
    Everything is in the units of normalised pixels. The decoder sees the feature vector alone: what it cannot tell from
    that, such as where things are after a mean over places, it cannot paint.
    """

    measure = "reconstruction_error"

    def __init__(self, held_out: Images, learning_rate: float, feature_dim: int, size_px: int) -> None:
        super().__init__(held_out, learning_rate)
        self.decoder = decoder(feature_dim, size_px)

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        seen = torch.rand(batch.images[:, :1].shape, device=batch.images.device) >= MASKED
        return {"loss": functional.mse_loss(*self._pair(network, batch.images, batch.images * seen))}

    def _pair(self, network: Network, images: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder paints from ``seen``, and what it should have."""
        painted = self.decoder(network.backbone(seen))
        if painted.shape == images.shape:
            return painted, images
        return painted, functional.interpolate(images, size=painted.shape[-2:], mode="bilinear", antialias=True)

    @torch.no_grad()
    def reached(self, network: Network, device: torch.device) -> float | None:
        """Share of the images' variance that is missing from unmasked ones' reconstructions: 0 is perfect, 1 is what
        painting the mean image of all would give. None where all are one picture.
        """
        error, squares, total = 0.0, 0.0, torch.zeros((), dtype=torch.float64)
        for images in self._views(device):
            painted, wanted = (side.cpu().double() for side in self._pair(network, images, images))
            error += (painted - wanted).square().sum().item()
            squares += wanted.square().sum().item()
            total = total + wanted.sum(dim=0)
        variance = squares - total.square().sum().item() / len(self.held_out)
        return error / variance if variance > ROUNDING * squares else None

    def told(self, value: float) -> str:
        return f"reconstruction error {value:.1%} of the variance, on {len(self.held_out):,} held-out images"


class Rotation(Pretext):
    """Tell by which multiple of 90 degrees an image was rotated.

    Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations" (ICLR 2018). With
    x_i rotated by 90°·k_i:
        mean_i( −log softmax(head(backbone(rotated x_i)))[k_i] )
    Each image of a batch is rotated once, a quarter of them by each angle (the paper shows all four of each image, at
    four times the cost). Where classes are told apart by orientation alone (6 and 9), it teaches the wrong thing.
    """

    measure = "rotation_accuracy"

    def __init__(self, held_out: Images, learning_rate: float, feature_dim: int) -> None:
        super().__init__(held_out, learning_rate)
        self.head = nn.Linear(feature_dim, TURNS)

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        turns = torch.arange(len(batch.images), device=batch.images.device) % TURNS
        logits = self.head(network.backbone(rotated(batch.images, turns)))
        return {"loss": functional.cross_entropy(logits, turns)}

    @torch.no_grad()
    def reached(self, network: Network, device: torch.device) -> float:
        """Share of the held-out images' four rotations that are recognised, in [0, 1]; chance is 0.25."""
        hits = 0
        for images in self._views(device):
            for turn in range(TURNS):
                logits = self.head(network.backbone(torch.rot90(images, turn, dims=(2, 3))))
                hits += int((logits.argmax(dim=1) == turn).sum())
        return hits / (TURNS * len(self.held_out))

    def told(self, value: float) -> str:
        return f"{value:.1%} of rotations recognised, on {len(self.held_out):,} held-out images"


def rotated(images: Tensor, turns: Tensor) -> Tensor:
    """Each image [3, S, S] of the batch turned left by its number of quarter turns, int64 [B]."""
    views = torch.stack([torch.rot90(images, turn, dims=(2, 3)) for turn in range(TURNS)])
    return views[turns, torch.arange(len(images), device=images.device)]


def decoder(feature_dim: int, size_px: int) -> nn.Sequential:
    """Features [B, feature_dim] → images [B, 3, s, s], s = 4·2ᵏ ≤ ``size_px`` and 64: doubled k times from 4 × 4."""
    doublings = max(0, (min(size_px, LARGEST_PX) // 4).bit_length() - 1)
    widths = [max(16, 128 >> step) for step in range(doublings + 1)]
    layers: list[nn.Module] = [nn.Linear(feature_dim, widths[0] * 16), nn.Unflatten(1, (widths[0], 4, 4))]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [
            nn.Upsample(scale_factor=2),
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 3, kernel_size=3, padding=1))
