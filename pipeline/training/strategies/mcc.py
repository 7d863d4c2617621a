"""MCC: make the answers to unlabelled target images less confused between classes.

Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation" (ECCV 2020); temperature and rates after the
authors' library.

Loss, over labelled images x [B, 3, S, S] with labels y, and target images x′ with logits z [B′, K]:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] ) + trade_off · Σ_{j≠k} C_jk / K
where p = softmax(z / temperature), each row weighted by 1 + exp(−its entropy), C = pᵀ·diag(weights)·p, and each row of
C is divided by its sum. No discriminator, nothing to balance but one weight.

Helps: the first choice for a target without labels, also where the shift is large or classes are missing.
Hurts: rarely; where most answers start out wrong it may make them surely wrong.
Cost: some 1,200 steps, each over a batch of either domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.training.adaptation.params import AdaptationParams

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.core.context import Context
    from pipeline.training.adaptation.adapt import Side
    from pipeline.training.task import Fitted, Task

SUMMARY = "less confusion between classes on the target's unlabelled images"
NEEDS = ("labels", "unlabelled", "features", "pixels")


class Params(AdaptationParams):
    """How soft the answers are that must not be confused."""

    name: Literal["mcc"] = "mcc"
    temperature: float = Field(2.5, gt=0)
    """Divides the logits, so that sure answers do not count as settled."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Labelled images with their labels, target images with their confusion."""
    from pipeline.training.adaptation.adapt import adapt
    from pipeline.training.adaptation.alignment import mcc_loss

    def confusion(labelled: Side, target: Side, progress: float) -> dict[str, Tensor]:
        return {"alignment": mcc_loss(target.logits, params.temperature)}

    return adapt(task, params, confusion, "Answers to target images were trained not to waver between classes.")
