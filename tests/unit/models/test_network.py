"""The network and how it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pipeline.core import digests
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import random_weights
from pipeline.models.heads import ForestHead
from pipeline.models.network import Network, TrainedNetwork

PREPROCESSING = backbone("small_cnn").preprocessing


def a_trained_network() -> tuple[Network, TrainedNetwork]:
    start = random_weights("small_cnn", 0, PREPROCESSING)
    network = Network("small_cnn", start.build(), 3)
    network.set_head(torch.arange(768.0).view(3, 256), torch.tensor([1.0, 2.0, 3.0]))
    trained = TrainedNetwork.of(
        network, preprocessing=PREPROCESSING, classes=["a", "b", "c"], strategy="probe", origin=start
    )
    return network, trained


def test_a_new_head_is_all_zeros() -> None:
    """Nothing random: every class is as likely as any other before training."""
    network = Network("small_cnn", random_weights("small_cnn", 0, PREPROCESSING).build(), 3)
    assert torch.equal(torch.zeros(2, 3), network(torch.rand(2, 3, 32, 32)))


def test_survives_a_round_trip(tmp_path: Path) -> None:
    """Saved, loaded and built, it answers with the same bits, in eval mode, without gradients."""
    network, trained = a_trained_network()
    trained.save(tmp_path / "network")
    built = TrainedNetwork.load(tmp_path / "network").build()
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(network.eval()(images), built(images))
    assert not built.training
    assert not any(value.requires_grad for value in built.parameters())


def test_memory_order_does_not_enter_the_digest() -> None:
    """Channels-last training and plain order keep equal weights as equal bytes."""
    network, trained = a_trained_network()
    again = TrainedNetwork.of(
        network.to(memory_format=torch.channels_last),
        preprocessing=PREPROCESSING,
        classes=["a", "b", "c"],
        strategy="probe",
        origin=random_weights("small_cnn", 0, PREPROCESSING),
    )
    assert trained.facts.weights_digest == again.facts.weights_digest


def test_tells_whether_the_backbone_has_learnt(tmp_path: Path) -> None:
    """A head of its own is no change of the backbone; the last bit of one weight or statistic is."""
    _, trained = a_trained_network()
    trained.save(tmp_path / "network")
    assert TrainedNetwork.load(tmp_path / "network").keeps_backbone
    backbone_names = [name for name in trained.state if name.startswith("backbone.")]
    for name in (backbone_names[0], next(name for name in backbone_names if name.endswith("running_mean"))):
        value = trained.state[name].clone().flatten()
        value[0] = torch.nextafter(value[0], torch.tensor(9.0))
        assert not replace(trained, state={**trained.state, name: value.view_as(trained.state[name])}).keeps_backbone


def test_metadata_names_where_it_came_from(tmp_path: Path) -> None:
    """What the exported file says about itself: digests of network and start, strategy, backbone."""
    _, trained = a_trained_network()
    trained.save(tmp_path / "network")
    assert trained.metadata["weights_digest"] == digests.of_file(tmp_path / "network" / "weights.safetensors")
    assert trained.metadata["backbone_digest"] == random_weights("small_cnn", 0, PREPROCESSING).digest
    assert (trained.metadata["backbone"], trained.metadata["strategy"]) == ("small_cnn", "probe")
    assert ("linear", "0.0") == (trained.metadata["head"], trained.metadata["head_step"])


def test_metadata_tells_by_how_much_a_head_jumps() -> None:
    """A head of ten trees: one comparison that falls to the other side moves a probability by a tenth at most."""
    start = random_weights("small_cnn", 0, PREPROCESSING)
    network = Network("small_cnn", start.build(), 2)
    nodes = torch.zeros(10, 1, dtype=torch.int64)
    network.head = ForestHead(
        feature=nodes,
        threshold=torch.zeros(10, 1),
        below=nodes,
        above=nodes,
        leaves=torch.full((10, 1, 2), 0.5),
        depth=torch.tensor(0),
    )
    trained = TrainedNetwork.of(
        network, preprocessing=PREPROCESSING, classes=["a", "b"], strategy="random_forest", origin=start
    )
    assert ("forest", "0.1") == (trained.metadata["head"], trained.metadata["head_step"])
