"""Maps show the patch that a hand-made network looks at, and the scores tell a knowing map from a random one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.evaluation import saliency
from pipeline.evaluation.saliency import SpatialLayer

SIDE_PX, PATCH = 32, (slice(8, 16), slice(20, 28))


class PatchBackbone(nn.Module):
    """Mean brightness in cells of 4 px, then two features: the mean of all cells, and of their negatives."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(4)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        maps = self.cells(images.mean(1, keepdim=True))
        return self.pool(torch.cat([maps, -maps], 1)).flatten(1)


class Tokens(nn.Module):
    """A class token that attends to four patches: behind the attention the patches' gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Identity(), nn.Identity()

    def forward(self, images):
        patches = nn.functional.avg_pool2d(images, images.shape[-1] // 2).flatten(2).transpose(1, 2)
        tokens = self.before(torch.cat([torch.zeros_like(patches[:, :1]), patches], 1))
        mixed = torch.cat([tokens[:, 1:].square().mean(1, keepdim=True), tokens[:, 1:]], 1)
        return self.after(mixed)[:, 0]


class Whole(nn.Module):
    """A backbone and a linear head, as far as maps need them."""

    def __init__(self, backbone, features, differentiable=True):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(features, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(2, features) * 50)
            self.head.bias.zero_()
        self.head.differentiable = differentiable

    def forward(self, images):
        return self.head(self.backbone(images))


def patched():
    images = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    images[:, :, PATCH[0], PATCH[1]] = 1
    return images


@pytest.fixture
def network():
    return Whole(PatchBackbone(), 2).eval().requires_grad_(False)


def share_in_patch(found):
    return float(found[PATCH].sum() / found.sum())


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam"])
def test_maps_find_a_planted_bright_patch(network, method):
    """The patch is 6 % of the image and holds most of the map; the map runs from 0 to 1 at the image's size."""
    layer = saliency.find_layer(network.backbone, patched())
    found = saliency.maps_of(network, layer, patched())[method][0]
    assert (SIDE_PX, SIDE_PX) == tuple(found.shape)
    assert (0, 1) == (float(found.min()), float(found.max()))
    assert share_in_patch(found) > 0.6


def test_the_layer_is_the_last_spatial_one(network):
    """The pool behind it has one cell, which is no map."""
    assert SpatialLayer("cells", (8, 8), 0, is_tokens=False) == saliency.find_layer(network.backbone, patched())


def test_tokens_are_a_grid_and_only_those_that_matter_count():
    """The last tokens that the features depend on, without the class token."""
    layer = saliency.find_layer(Tokens(), patched() + 0.1)
    assert SpatialLayer("before", (2, 2), 1, is_tokens=True) == layer
    tokens = torch.arange(5.0).view(1, 5, 1)
    assert [[1, 2], [3, 4]] == layer.maps(tokens)[0, 0].tolist()


def test_a_backbone_without_spatial_layer_has_none():
    assert saliency.find_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.ones(1, 3, 2, 2)) is None


def test_without_a_gradient_through_the_head_there_is_no_grad_cam():
    network = Whole(PatchBackbone(), 2, differentiable=False).eval()
    layer = saliency.find_layer(network.backbone, patched())
    assert ["eigen_cam"] == list(saliency.maps_of(network, layer, patched()))


def test_grad_cam_weighs_channels_by_their_mean_gradient():
    """ReLU(Σ αₖ Aₖ), against the formula in numpy."""
    rng = np.random.default_rng(0)
    activations, gradients = rng.normal(size=(2, 1, 5, 3, 4))
    expected = np.maximum((gradients[0].mean((1, 2))[:, None, None] * activations[0]).sum(0), 0)
    found = saliency.grad_cam(torch.from_numpy(activations), torch.from_numpy(gradients))[0]
    np.testing.assert_allclose(found.numpy(), expected)


def test_eigen_cam_is_the_projection_on_the_first_singular_vector():
    """Against numpy's SVD, up to the sign that makes it positive."""
    activations = np.random.default_rng(0).uniform(0, 1, (5, 3, 4))
    _, _, right = np.linalg.svd(activations.reshape(5, 12).T, full_matrices=False)
    expected = np.abs(activations.reshape(5, 12).T @ right[0]).reshape(3, 4)
    np.testing.assert_allclose(saliency.eigen_cam(torch.from_numpy(activations)[None])[0].numpy(), expected)


def probability(images):
    """High while the patch is bright."""
    return torch.sigmoid(12 * (images[:, :, PATCH[0], PATCH[1]].mean((1, 2, 3)) - 0.5))


def test_a_perfect_map_beats_random_ones():
    """Lower deletion and higher insertion than each of five random maps of a 4 × 4 grid."""
    perfect = torch.zeros(SIDE_PX, SIDE_PX)
    perfect[PATCH] = 1
    best = saliency.follow(probability, patched()[0], perfect)
    for seed in range(5):
        other = saliency.follow(probability, patched()[0], saliency.random_map((4, 4), SIDE_PX, seed))
        assert best.deletion < other.deletion
        assert best.insertion > other.insertion


def test_scores_are_areas_under_the_curves():
    """With one step: half of the two ends' probabilities, taken away into zeros and put back from a blurred image."""
    image = patched()[0]
    blurred = saliency.blurred(image)
    start, end, gone = (float(probability(one[None])) for one in (blurred, image, torch.zeros_like(image)))
    found = saliency.follow(probability, image, torch.rand(SIDE_PX, SIDE_PX), steps=1)
    assert pytest.approx(((end + gone) / 2, (start + end) / 2)) == (found.deletion, found.insertion)


def test_random_maps_are_repeatable():
    first, again, other = (saliency.random_map((4, 4), 16, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_flat_map_is_all_zeros():
    assert 0 == float(saliency.enlarged(torch.full((1, 2, 2), 3.0), 8).abs().max())


def test_heads_say_whether_a_gradient_passes():
    """One that says nothing is taken to have one."""
    assert saliency.is_differentiable(SimpleNamespace(head=nn.Linear(1, 1)))
    assert not saliency.is_differentiable(SimpleNamespace(head=SimpleNamespace(differentiable=False)))
