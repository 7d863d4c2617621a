"""Full fine-tuning: every layer from the pretrained weights, under a head that starts at zero.

Kolesnikov et al., "Big Transfer" (2020), without its large batches: zero head, warm-up, one rate for the backbone.

Loss, over images x [B, 3, S, S] and labels y [B]:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] )

Helps: many labels (thousands), or a target far from what the backbone was trained on.
Hurts: few labels of photos: large first gradients from an untrained head distort features that were right (Kumar et
al., 2022); use lp_ft.
Cost: passes forward and backward over the labelled images; no features needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams
from pipeline.training.phases import Phase, discriminative

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "all layers from pretrained weights, fresh head"
NEEDS = ("labels", "pixels")


class Params(PluginParams):
    """One phase over all layers."""

    name: Literal["full"] = "full"
    epochs: int = Field(20, gt=0)
    """A small set is passed over several times per epoch."""
    learning_rate: float = Field(3e-4, gt=0)
    """Of every block of the backbone."""
    head_learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    l2_sp: float = Field(0.0, ge=0)
    """α of L²-SP (Li et al., 2018): pulls the backbone's weights back to the pretrained ones; 0 lets them go."""
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    batch_norm: Literal["eval", "train"] = "train"
    patience: int | None = Field(6, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """One phase, everything trainable."""
    from pipeline.training.fine_tuning import fine_tune

    network = task.pretrained_network()
    phase = Phase(
        name="full",
        epochs=params.epochs,
        learning_rates=discriminative(
            tuple(network.row.blocks), head=params.head_learning_rate, last=params.learning_rate
        ),
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        batch_norm=params.batch_norm,
        patience=params.patience,
        l2_sp=params.l2_sp,
    )
    why = "Every layer was trained from the pretrained weights, the head from zero."
    return fine_tune(task, network, [phase], params, sentences=[why])
