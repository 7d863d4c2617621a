"""Every backbone has a layer that maps can be drawn from, and it is found without being named."""

from __future__ import annotations

import pytest
import torch

from pipeline.evaluation.saliency import find_layer, maps_of
from pipeline.models.backbones import BACKBONES
from pipeline.models.network import Network, build_backbone

SIZE_PX = {"small_cnn": 32, "inception_v3": 128, "vit_b_16": 224}
"""Smaller than in earnest where the architecture allows it, to be quick."""


@pytest.mark.parametrize("name", BACKBONES)
def test_a_spatial_layer_is_found_and_maps_come_from_it(name):
    """Maps of both methods, at the image's size and within [0, 1]; a head of random weights gives a gradient."""
    torch.set_num_threads(1)
    network = Network(name, build_backbone(name), classes=3).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    network.set_head(torch.randn((3, network.row.feature_dim), generator=generator), torch.zeros(3))
    side_px = SIZE_PX.get(name, 64)
    images = torch.randn((1, 3, side_px, side_px), generator=generator)
    layer = find_layer(network.backbone, images)
    assert layer is not None
    assert min(layer.grid) > 1
    maps = maps_of(network, layer, images)
    assert ["grad_cam", "eigen_cam"] == list(maps)
    for found in maps.values():
        assert (1, side_px, side_px) == tuple(found.shape)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert 1 == float(maps["eigen_cam"].max())
