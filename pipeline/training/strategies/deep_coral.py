"""Deep CORAL: features of both domains get the same covariance while the classes are learnt.

Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation" (ECCV Workshops 2016).

Loss, over labelled images x [B, 3, S, S] with labels y, and features f [B, D] of these and f′ [B′, D] of target images:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] ) + trade_off · ‖Cov(f) − Cov(f′)‖²_F / 4D²

Helps: a near target; steady, and seldom below the source alone.
Hurts: little; a far target is not reached by second moments.
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

SUMMARY = "equal covariance of features in both domains"
NEEDS = ("labels", "unlabelled", "features", "pixels")


class Params(AdaptationParams):
    """The weight is that of common re-implementations; the value of this loss is small."""

    name: Literal["deep_coral"] = "deep_coral"
    trade_off: float = Field(10.0, ge=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Labelled images with their labels, both domains with their covariances."""
    from pipeline.training.adaptation.adapt import adapt
    from pipeline.training.adaptation.alignment import coral_loss

    def correlation(labelled: Side, target: Side, progress: float) -> dict[str, Tensor]:
        return {"alignment": coral_loss(labelled.features, target.features)}

    return adapt(task, params, correlation, "Features of both domains were trained to have the same covariance.")
