"""DANN: features that a discriminator cannot tell the domains apart by.

Ganin et al., "Domain-Adversarial Training of Neural Networks" (JMLR 2016).

Loss, over labelled images x [B, 3, S, S] with labels y, and features f [B, D] of these and f′ [B′, D] of target images:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] ) + trade_off · ½ (mean −log σ(d(f_i)) + mean −log(1 − σ(d(f′_i))))
The discriminator d (two layers of 1,024) minimises its part; between it and the features the gradient is turned round
and multiplied by λ = 2 / (1 + exp(−10 · progress)) − 1.

Helps: a target of another look with the same classes in like proportions.
Hurts: fairly often: whatever tells domains apart is given up, classes included. The guards say when.
Cost: some 1,200 steps, each over a batch of either domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.training.adaptation.params import AdaptationParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "features that hide their domain from a discriminator"
NEEDS = ("labels", "unlabelled", "features", "pixels")


class Params(AdaptationParams):
    """The discriminator's schedule needs no setting."""

    name: Literal["dann"] = "dann"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Labelled images with their labels, both domains against the discriminator."""
    from pipeline.training.adaptation.adapt import adapt
    from pipeline.training.adaptation.adversary import Adversary, fooled

    adversary = Adversary(task.backbone.feature_dim, context.seed)
    told = "Features were trained to hide from a discriminator which domain they come from."
    return adapt(task, params, adversary, told, more_guards=fooled)
