"""MMD: features of both domains are drawn from one distribution, as far as a family of kernels can tell.

Long et al., "Learning Transferable Features with Deep Adaptation Networks" (ICML 2015): multi-kernel maximum mean
discrepancy, here on the features before the head.

Loss, over labelled images x [B, 3, S, S] with labels y, and features f [B, D] of these and f′ [B′, D] of target images:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] ) + trade_off · ( mean k(f, f) + mean k(f′, f′) − 2 · mean k(f, f′) )
with k a sum of five Gaussians whose widths follow the mean distance, from an eighth to twice as wide.

Helps: a near target with classes in like proportions.
Hurts: other proportions of classes in the target: equal distributions then mix classes up. Less steady than deep_coral.
Cost: some 1,200 steps, each over a batch of either domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.training.adaptation.params import AdaptationParams

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.core.context import Context
    from pipeline.training.adaptation.adapt import Side
    from pipeline.training.task import Fitted, Task

SUMMARY = "equal distribution of features in both domains, by kernels"
NEEDS = ("labels", "unlabelled", "features", "pixels")


class Params(AdaptationParams):
    """The kernels' widths need no setting."""

    name: Literal["mmd"] = "mmd"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Labelled images with their labels, both domains with their discrepancy."""
    from pipeline.training.adaptation.adapt import adapt
    from pipeline.training.adaptation.alignment import mk_mmd_loss

    def discrepancy(labelled: Side, target: Side, progress: float) -> dict[str, Tensor]:
        return {"alignment": mk_mmd_loss(labelled.features, target.features)}

    return adapt(task, params, discrepancy, "Features of both domains were trained to follow one distribution.")
