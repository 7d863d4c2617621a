"""CDAN: as dann, but the discriminator sees features together with the answers, so that classes are aligned one by one.

Long et al., "Conditional Adversarial Domain Adaptation" (NeurIPS 2018); with ``by_entropy`` its CDAN+E.

Loss, over labelled images x [B, 3, S, S] with labels y, features f [B, D] and probabilities p [B, K] of either domain:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] )
    + trade_off · ½ ( mean_i −w_i log σ(d(f_i ⊗ p_i)) + mean_i −w′_i log(1 − σ(d(f′_i ⊗ p′_i))) )
with w_i = 1 + exp(−entropy(p_i)), of mean 1, and the gradient turned round as in dann. Where D · K > 4,096 the product
f ⊗ p is replaced by 1,024 random projections of it.

Helps: as dann, with several modes per domain; usually the better of the two.
Hurts: less often than dann; wrong answers of a far target are aligned as if they were right.
Cost: some 1,200 steps, each over a batch of either domain; a larger discriminator than dann's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.training.adaptation.params import AdaptationParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "features and answers that hide their domain from a discriminator"
NEEDS = ("labels", "unlabelled", "features", "pixels")


class Params(AdaptationParams):
    """What the discriminator looks at most."""

    name: Literal["cdan"] = "cdan"
    by_entropy: bool = True
    """Images with sure answers count up to twice as much."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Labelled images with their labels, features and answers of both domains against the discriminator."""
    from pipeline.training.adaptation.adapt import adapt
    from pipeline.training.adaptation.adversary import ConditionalAdversary, fooled

    adversary = ConditionalAdversary(
        task.backbone.feature_dim, len(task.classes), context.seed, by_entropy=params.by_entropy
    )
    told = "Features and answers together were trained to hide from a discriminator which domain they come from."
    return adapt(task, params, adversary, told, more_guards=fooled)
