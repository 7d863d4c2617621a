"""Pretraining without labels: what the objectives ask for, and what they are judged by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.images import ImageStore
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.models.network import Network, build_backbone
from pipeline.training.objectives import UNLABELLED, Batch, Images
from pipeline.training.phases import Phase
from pipeline.training.pretext import MASKED, Autoencoder, Rotation, decoder, rotated

CPU = torch.device("cpu")


def images(toy_domains: Any, split: str) -> Images:
    manifest = toy_domains.source.split(split)
    bank = ImageBank(manifest, ImageStore(toy_domains.workspace, 1), a_network().row.preprocessing)
    return Images(bank, np.full(len(manifest), UNLABELLED, dtype=np.int64))


def a_network() -> Network:
    return Network("small_cnn", build_backbone("small_cnn"), 1).eval()


def a_batch(count: int) -> Batch:
    squares = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(squares, torch.full((count,), UNLABELLED), torch.arange(count), {}, 0.0)


PHASE = Phase(name="pretrain", epochs=1, learning_rates={})


@pytest.mark.parametrize(("size_px", "side"), [(16, 16), (28, 16), (32, 32), (64, 64), (224, 64)])
def test_the_decoder_paints_small_images(size_px: int, side: int) -> None:
    """The largest power of two within the image, 64 at most."""
    assert (2, 3, side, side) == tuple(decoder(8, size_px)(torch.zeros(2, 8)).shape)


def test_each_image_is_turned_by_its_own_angle() -> None:
    """The same as turning them one by one."""
    batch = torch.arange(4 * 3 * 2 * 2, dtype=torch.float32).view(4, 3, 2, 2)
    turns = torch.tensor([3, 0, 2, 1])
    one_by_one = [torch.rot90(image, int(turn), dims=(1, 2)) for image, turn in zip(batch, turns, strict=True)]
    assert torch.equal(torch.stack(one_by_one), rotated(batch, turns))


def test_a_batch_holds_every_rotation_equally_often(toy_domains: Any) -> None:
    """A head that always gives the same logits has the cross-entropy of those over balanced classes."""
    objective = Rotation(images(toy_domains, "val"), 1e-3, 256)
    nn.init.zeros_(objective.head.weight)
    objective.head.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    expected = np.log(np.exp(2) + 3) - 2 / 4
    assert objective.loss(a_network(), a_batch(8), PHASE)["loss"].item() == pytest.approx(expected, abs=1e-5)


def test_the_autoencoder_is_asked_for_what_it_cannot_see(toy_domains: Any) -> None:
    """A part of the pixels is hidden from the backbone, all of them from every channel; the target is unmasked."""
    seen: list[torch.Tensor] = []
    network = a_network()
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    objective = Autoencoder(images(toy_domains, "val"), 1e-3, 256, 32)
    nn.init.zeros_(objective.decoder[-1].weight)
    nn.init.zeros_(objective.decoder[-1].bias)
    batch = a_batch(8)
    loss = objective.loss(network, batch, PHASE)["loss"].item()
    assert loss == pytest.approx(batch.images.square().mean().item(), rel=1e-5)
    hidden = seen[0] == 0
    assert torch.equal(hidden.all(dim=1), hidden.any(dim=1))
    assert hidden.float().mean().item() == pytest.approx(MASKED, abs=0.03)


def test_larger_images_are_painted_small(toy_domains: Any) -> None:
    """What is wanted is the unmasked image, scaled to the decoder's size."""
    objective = Autoencoder(images(toy_domains, "val"), 1e-3, 256, 16)
    batch = torch.full((2, 3, 32, 32), 0.5)
    painted, wanted = objective._pair(a_network(), batch, batch)
    assert (2, 3, 16, 16) == tuple(painted.shape)
    assert torch.allclose(wanted, torch.full((2, 3, 16, 16), 0.5))


def test_painting_the_mean_image_is_an_error_of_one(toy_domains: Any) -> None:
    """The scale of the reconstruction error."""
    held_out = images(toy_domains, "val")
    objective = Autoencoder(held_out, 1e-3, 256, 32)
    mean = torch.cat(list(objective._views(CPU))).mean(dim=0)
    objective.decoder = nn.Sequential(Constant(mean))
    assert objective.reached(a_network(), CPU) == pytest.approx(1.0, abs=1e-4)
    assert objective.told(0.25) == "reconstruction error 25.0% of the variance, on 12 held-out images"


def test_one_picture_has_no_variance_to_miss_a_share_of(toy_domains: Any) -> None:
    """Nothing is measured, in place of a figure of seventeen digits."""
    one = toy_domains._replace(source=Manifest(toy_domains.source.split("val").frame.head(1)))
    objective = Autoencoder(images(one, "val"), 1e-3, 256, 32)
    assert objective.reached(a_network(), CPU) is None
    assert {} == objective.judge(a_network(), CPU).values


class Constant(nn.Module):
    """Paints one image, whatever the features."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.image.expand(len(features), -1, -1, -1)


def test_rotations_are_judged_on_all_four(toy_domains: Any) -> None:
    """A head that always says "upright" is right for a quarter of them."""
    objective = Rotation(images(toy_domains, "val"), 1e-3, 256)
    nn.init.zeros_(objective.head.weight)
    objective.head.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert objective.judge(a_network(), CPU).values == {"rotation_accuracy": 0.25}


def test_without_held_out_images_nothing_is_judged(toy_domains: Any) -> None:
    """Small data sets may have no validation split."""
    nothing = images(toy_domains, "no such split")
    assert Rotation(nothing, 1e-3, 256).judge(a_network(), CPU).values == {}
