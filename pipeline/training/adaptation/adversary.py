"""Domain discriminators that a network is trained to fool, as alignments of :mod:`.adapt`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.core.seeding import derive
from pipeline.training.adaptation import guards
from pipeline.training.adaptation.adapt import Side
from pipeline.training.adaptation.alignment import (
    Discriminator,
    Joined,
    domain_accuracy,
    domain_loss,
    entropy,
    reversal_strength,
    reversed_gradient,
)
from pipeline.training.record import Epoch


class Adversary(nn.Module):
    """A discriminator on features, behind a reversal of the gradient (Ganin et al., 2016).

    One step trains both: the discriminator to tell the domains apart, the network to make it fail.
    """

    def __init__(self, inputs: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "discriminator"))
            self.discriminator = Discriminator(inputs)

    def seen(self, side: Side) -> Tensor:
        """What the discriminator gets to see of one domain's images, [B, inputs]."""
        return side.features

    def weights(self, side: Side) -> Tensor | None:
        """How much each image counts, [B] with mean 1; None counts all alike."""
        return None

    def forward(self, source: Side, target: Side, progress: float) -> dict[str, Tensor]:
        strength = reversal_strength(progress)
        both = reversed_gradient(torch.cat([self.seen(source), self.seen(target)]), strength)
        of_source, of_target = self.discriminator(both).split([len(source.features), len(target.features)])
        return {
            "alignment": domain_loss(of_source, of_target, self.weights(source), self.weights(target)),
            "domain_accuracy": domain_accuracy(of_source, of_target),
            "reversal_strength": of_source.new_tensor(strength),
        }


class ConditionalAdversary(Adversary):
    """The discriminator sees features and answers together (Long et al., 2018), so that classes are not mixed up.

    With ``by_entropy`` (CDAN+E) images with sure answers count more: 1 + exp(−entropy). Answers are given, not trained.
    """

    def __init__(self, feature_dim: int, classes: int, seed: int, *, by_entropy: bool) -> None:
        joined = Joined(feature_dim, classes, derive(seed, "joined"))
        super().__init__(joined.outputs, seed)
        self.joined, self.by_entropy = joined, by_entropy

    def seen(self, side: Side) -> Tensor:
        joined: Tensor = self.joined(side.features, torch.softmax(side.logits, dim=1).detach())
        return joined

    def weights(self, side: Side) -> Tensor | None:
        if not self.by_entropy:
            return None
        sure = 1 + torch.exp(-entropy(torch.softmax(side.logits, dim=1).detach()))
        return sure / sure.mean()


def fooled(history: Sequence[Epoch]) -> dict[str, bool]:
    """Guard G4, from the epochs' curves."""
    accuracies = [entry.terms["domain_accuracy"] for entry in history]
    return {"discriminator_was_fooled": guards.discriminator_is_fooled(accuracies)}
