"""Every row of the backbone table keeps the table's promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.backbones import BACKBONES
from pipeline.models.network import Network, build_backbone
from pipeline.training.engine import set_modes
from pipeline.training.frozen_prefix import FrozenPrefix, KeptOutputs
from pipeline.training.phases import Phase, discriminative

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


@torch.no_grad()
def test_the_smallest_images_pass(network: Network) -> None:
    """From the first block to the last: a blank one stands for outputs that were kept."""
    side = network.row.least_px
    assert side <= network.row.preprocessing.size_px
    assert (1, 3) == tuple(network(torch.zeros(1, 3, side, side)).shape)


ENDS_NOT = {("vit_b_16", 1), ("vgg16", 7)}
"""Blocks, by how many are frozen, whose outputs are not kept: no module's own, and behind dropout of no block."""


@torch.no_grad()
def test_behind_each_block_the_rest_answers_alike(network: Network) -> None:
    """From a block's kept outputs the other blocks make what they make of the images, in training mode too, where the
    rest has dropout of its own: training may begin there.
    """
    size = SIZE_PX.get(network.row.name, 64)
    blocks = tuple(network.row.blocks)
    network.to(memory_format=torch.channels_last).head.weight.normal_()
    views = torch.randn(3, 3, size, size).contiguous(memory_format=torch.channels_last)
    ends = []
    for frozen in range(1, len(blocks) + 1):
        phase = Phase("tune", 1, discriminative(blocks, head=1, last=1, frozen=frozen))
        prefix = FrozenPrefix.of(network, phase, size)
        ends.append(prefix and prefix.end)
        if prefix is None:
            continue
        found = prefix.outputs(views)
        kept = KeptOutputs(3, found, torch.device("cpu"))
        kept.fill(np.arange(3), found)
        for training in (False, True):
            if training:
                set_modes(network, phase)
            (outputs,) = kept.batches([np.array([2, 0])], torch.device("cpu"))
            torch.manual_seed(0)
            expected = network(views[[2, 0]])
            torch.manual_seed(0)
            torch.testing.assert_close(prefix.suffix(outputs), expected, rtol=1e-5, atol=1e-6)
        network.eval()
    told = {(network.row.name, k + 1) for k in range(len(ends)) if ends[k] is (ends[k - 1] if k else None)}
    assert told == {named for named in ENDS_NOT if named[0] == network.row.name}
    network.to(memory_format=torch.contiguous_format)
