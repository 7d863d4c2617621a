"""Learning from one's own sure answers: the target's side of ``selftrain``.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence" (2020); the quota per
class after Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training"
(2018).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.adaptation.adapt import Side
from pipeline.training.adaptation.alignment import mcc_loss
from pipeline.training.objectives import View

VIEWS: tuple[View, ...] = ("random", "strong")
"""Of each target image: the first answers, the second learns the answer."""

TEMPERATURE = 2.5
"""Of ``mcc_loss`` (Jin et al., 2020)."""


def accepted(probabilities: Tensor, least_confidence: float, shares: Tensor) -> Tensor:
    """Which answers to learn from, bool [B]: the surest of each class, none below ``least_confidence``.

    Of class c at most ⌈shares[c] · B⌉ are taken, ``probabilities`` [B, C] and ``shares`` [C]: a class that the network
    already favours cannot crowd out the others.
    """
    confidence, answers = probabilities.max(dim=1)
    order = confidence.argsort(descending=True, stable=True)
    ordered = functional.one_hot(answers[order], probabilities.shape[1])
    rank = (ordered.cumsum(dim=0) * ordered).sum(dim=1)  # 1 for the surest of its class
    most = torch.ceil(shares * len(answers))
    taken = torch.zeros_like(answers, dtype=torch.bool)
    taken[order] = rank <= most[answers[order]]
    return taken & (confidence >= least_confidence)


class SelfTraining(nn.Module):
    """An alignment for :func:`~pipeline.training.adaptation.adapt.adapt` with :data:`VIEWS`: mcc, then pseudo-labels.

    With the answers p [B, C] to weak views and ŷ_i = argmax p_i, the logits z of strong views and the accepted A:
        Σ_{i ∈ A} −log softmax(z_i)[ŷ_i] / B
    """

    shares: Tensor

    def __init__(self, prior: np.ndarray, *, warm_up: float, least_confidence: float, quota: float) -> None:
        """``prior`` [C] is how often each class is expected; ``quota`` times that is the most that is learnt from."""
        super().__init__()
        self.warm_up, self.least_confidence = warm_up, least_confidence
        self.register_buffer("shares", torch.from_numpy(np.asarray(quota * prior, dtype=np.float32)))

    def forward(self, labelled: Side, target: Side, progress: float) -> dict[str, Tensor]:
        """``target`` holds the weak views, then the strong ones in the same order."""
        weak, strong = target.logits.chunk(len(VIEWS))
        probabilities = weak.detach().softmax(dim=1)
        taken = accepted(probabilities, self.least_confidence, self.shares).float()
        if progress < self.warm_up:
            alignment = mcc_loss(weak, TEMPERATURE)
        else:
            losses = functional.cross_entropy(strong, probabilities.argmax(dim=1), reduction="none")
            alignment = (taken * losses).mean()
        return {"alignment": alignment, "accepted": taken.mean()}
