"""A small card of images on which an adapted network must still be right: what tells a collapse without target labels.

Held-out images of the source, where there are any and the network knows them. Otherwise the target images that it was
surest of before, under its own answers to them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.core.device import choose
from pipeline.data.manifest import Manifest
from pipeline.models.network import Network
from pipeline.training.adaptation import guards
from pipeline.training.adaptation.own_statistics import features_of
from pipeline.training.batch_norm import reestimate
from pipeline.training.objectives import Images
from pipeline.training.task import Task

PER_CLASS = 20
"""Source images of each class on the card, at most."""

SUREST = 0.2
"""Share of the target images that are on the card where there is no source."""


class Card(NamedTuple):
    """Some images, what the right answers to them are, and how many were given before adaptation."""

    images: Images
    of: str
    """What the images are, in words."""
    term: str
    """Name of the curve."""
    own_statistics: bool
    """Are they of another domain than the network is adapted to, and so answered under BatchNorm statistics of their
    own? Under the target's a good adaptation would look like a collapse."""
    before: float = 1.0
    """Accuracy on the card before adaptation."""

    def retention(self, network: Network, device: torch.device) -> float:
        """Accuracy now as a share of that before; the network, on ``device``, is left as it was, in eval mode."""
        return guards.source_retention(self.accuracy(network, device), self.before)

    def accuracy(self, network: Network, device: torch.device) -> float:
        """Share of right answers, in [0, 1]."""
        network.eval()
        kept = {name: value.clone() for name, value in network.named_buffers()}
        if self.own_statistics:
            reestimate(network, self.images, device)
        answers = _logits(network, self.images, device).argmax(dim=1).cpu().numpy()
        network.load_state_dict(kept, strict=False)
        return float((answers == self.images.labels).mean())


def card_for(task: Task, network: Network) -> Card:
    """Ask ``network``, which is about to be adapted, and keep what it knows."""
    device = choose(task.context.device)
    network.to(device).eval()
    card = _source_card(task, network, device) or _target_card(task, network, device)
    network.to("cpu")
    return card


def _source_card(task: Task, network: Network, device: torch.device) -> Card | None:
    """None where no source image is held out, or the network is hardly better at them than one constant answer."""
    if not task.source_is_held_out:
        return None
    held_out = task.source.split("val")
    part = held_out.where(held_out.frame.groupby("label").cumcount() < PER_CLASS)
    images = Images(task.bank(part), task.label_space.indices(part.frame["label"]))
    card = Card(images, f"{len(part):,} held-out source images", "source_retention", own_statistics=True)
    card = card._replace(before=card.accuracy(network, device))
    return card if guards.is_known(card.before, images.labels) else None


def _target_card(task: Task, network: Network, device: torch.device) -> Card:
    images = task.target_images
    confidence, answers = _logits(network, images, device).softmax(dim=1).max(dim=1)
    count = max(1, round(SUREST * len(images)))
    rows = torch.argsort(confidence, descending=True, stable=True)[:count].sort().values.cpu().numpy()
    part = Manifest(images.bank.manifest.frame.iloc[rows].reset_index(drop=True))
    told = f"the {count:,} target images that the network was surest of"
    labelled = Images(task.bank(part), answers.cpu().numpy()[rows])
    card = Card(labelled, told, "answers_kept", own_statistics=False)
    return card._replace(before=card.accuracy(network, device))


@torch.no_grad()
def _logits(network: Network, images: Images, device: torch.device) -> Tensor:
    return network.head(features_of(network, images, device)).float()
