"""Every row of the backbone table keeps the table's promises."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.backbones import BACKBONES
from pipeline.models.network import Network, build_backbone

SIZE_PX = {"small_cnn": 32, "inception_v3": 96, "vit_b_16": 224}
"""Smaller than in earnest where the architecture allows it, to be quick."""


@pytest.fixture(scope="module", params=BACKBONES)
def network(request: pytest.FixtureRequest) -> Network:
    torch.set_num_threads(1)
    return Network(request.param, build_backbone(request.param), classes=3).eval()


@torch.inference_mode()
def test_features_have_the_promised_width(network: Network) -> None:
    """The headless module returns [B, feature_dim] for images [B, 3, S, S]."""
    size = SIZE_PX.get(network.row.name, 64)
    features = network.backbone(torch.zeros(2, 3, size, size))
    assert (2, network.row.feature_dim) == tuple(features.shape)


def test_blocks_cover_every_parameter_exactly_once(network: Network) -> None:
    """No parameter is in two groups, and none is left without a learning rate."""
    grouped = [name for group in network.groups for name in network.parameters_of(group)]
    assert sorted(name for name, _ in network.named_parameters()) == sorted(grouped)


def test_blocks_cover_every_buffer_exactly_once(network: Network) -> None:
    """BatchNorm statistics belong to the group of their layer, so that freezing keeps them too."""
    grouped = [name for group in network.groups for name in network.state_of(group)]
    assert sorted(network.state_dict()) == sorted(grouped)


def test_blocks_run_from_input_to_output(network: Network) -> None:
    """Parameters come in the order of the blocks, as the architecture defines them."""
    order = [name for group in network.groups for name in network.parameters_of(group)]
    defined = [name for name, _ in network.named_parameters()]
    if network.row.name != "vit_b_16":  # its class token is defined before the patches it is put beside
        assert defined == order
