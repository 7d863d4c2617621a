"""Adaptation from the network's own answers: objectives that need neither labels nor source images.

Entropies are in nats; z are logits [B, C], p = softmax(z) and p̄ [C] their mean over the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.network import Network
from pipeline.training.adaptation.alignment import entropy
from pipeline.training.adaptation.guards import LEAST_RETENTION
from pipeline.training.adaptation.own_statistics import features_of
from pipeline.training.adaptation.retention import Card
from pipeline.training.objectives import Batch, Images, Judgement, Objective
from pipeline.training.phases import Phase

CENTROID_ROUNDS = 2
"""Soft centroids once, then from the labels they gave (Liang et al., 2020)."""


def mean_entropy(logits: Tensor) -> Tensor:
    """mean_i H(p_i): low where the network is sure of each answer."""
    return entropy(logits.softmax(dim=1)).mean()


def marginal_entropy(logits: Tensor) -> Tensor:
    """H(p̄): high where all classes are answered about equally often."""
    return entropy(logits.softmax(dim=1).mean(dim=0, keepdim=True))[0]


def centroid_labels(features: Tensor, probabilities: Tensor) -> Tensor:
    """The class of the nearest centroid by cosine, int64 [n]; ``features`` [n, D], ``probabilities`` [n, C].

    A first set of centroids is the mean of features weighted by the probabilities; the second is that of the images
    which the first claims. A class that is no image's first answer gets no centroid, and no image.
    """
    classes = probabilities.shape[1]
    directions = functional.normalize(features, dim=1)
    weights, answers = probabilities, probabilities.argmax(dim=1)
    for _ in range(CENTROID_ROUNDS):
        centroids = functional.normalize(weights.T @ directions, dim=1)
        similarities = directions @ centroids.T
        similarities[:, torch.bincount(answers, minlength=classes) == 0] = -torch.inf
        answers = similarities.argmax(dim=1)
        weights = functional.one_hot(answers, classes).to(features)
    return answers


class Entropy(Objective):
    """Tent: mean_i H(p_i)."""

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        return {"loss": mean_entropy(network(batch.images))}


class InformationMaximisation(Objective):
    """SHOT: mean_i H(p_i) − H(p̄) + weight · mean_i( −log p_i[ŷ_i] ), with ŷ from the centroids of the epoch's start.

    The card refuses an epoch after which too little of what the network knew is left.
    """

    pseudo_labels: Tensor

    def __init__(self, images: Images, pseudo_label_weight: float, card: Card) -> None:
        super().__init__()
        self.images, self.weight, self.card = images, pseudo_label_weight, card
        self.register_buffer("pseudo_labels", torch.zeros(len(images), dtype=torch.int64))

    @torch.no_grad()
    def begin_epoch(self, network: Network, device: torch.device) -> None:
        if self.weight:
            features = features_of(network, self.images, device).float()
            self.pseudo_labels.copy_(centroid_labels(features, network.head(features).softmax(dim=1)))

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        logits = network(batch.images)
        terms = {"entropy": mean_entropy(logits), "marginal_entropy": marginal_entropy(logits)}
        loss = terms["entropy"] - terms["marginal_entropy"]
        if self.weight:
            terms["pseudo_label_loss"] = functional.cross_entropy(logits, self.pseudo_labels[batch.rows])
            loss = loss + self.weight * terms["pseudo_label_loss"]
        return {"loss": loss, **terms}

    def judge(self, network: Network, device: torch.device) -> Judgement:
        kept = self.card.retention(network, device)
        told = f"{kept:.0%} of what was right before on {self.card.of} was left, {LEAST_RETENTION:.0%} is the least."
        return Judgement({self.card.term: kept}, None if kept >= LEAST_RETENTION else told)
