"""LP-FT: solve the linear probe first, then fine-tune every layer from there at a small rate.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022): a head
that already fits sends small gradients back, so that the features are refined and not overwritten.

Phase 1, closed: the loss of ``probe``. Phase 2, over images x [B, 3, S, S] and labels y [B]:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] )
with rates that fall from the head to the input, and BatchNorm statistics kept as pretrained.

Helps: the default with labels; in the domain at least as good as plain fine-tuning, under shift better.
Hurts: little. With very few labels the second phase may add nothing; a validation split then keeps what it began with.
Cost: the probe, plus some passes forward and backward over the labelled images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams
from pipeline.training.phases import Phase, discriminative

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "linear probe, then all layers at a small rate"
NEEDS = ("labels", "features", "pixels")


class Params(PluginParams):
    """The fine-tuning phase; the probe needs no tuning."""

    name: Literal["lp_ft"] = "lp_ft"
    epochs: int = Field(8, gt=0)
    """Of fine-tuning; a small set is passed over several times per epoch."""
    learning_rate: float = Field(3e-4, gt=0)
    """Of the head and the last block."""
    block_decay: float = Field(0.7, gt=0, le=1)
    """Each block's rate is this times its successor's."""
    weight_decay: float = Field(1e-4, ge=0)
    l2_sp: float = Field(0.0, ge=0)
    """α of L²-SP (Li et al., 2018): pulls the backbone's weights back to the pretrained ones; 0 lets them go."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    batch_norm: Literal["eval", "train"] = "eval"
    patience: int | None = Field(4, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Probe, then every group trainable."""
    from pipeline.training.classifiers import heads
    from pipeline.training.fine_tuning import fine_tune

    network = task.pretrained_network()
    probe = heads.starting_head(task, network)
    phase = Phase(
        name="fine_tune",
        epochs=params.epochs,
        learning_rates=discriminative(
            tuple(network.row.blocks), head=params.learning_rate, last=params.learning_rate, decay=params.block_decay
        ),
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        batch_norm=params.batch_norm,
        patience=params.patience,
        l2_sp=params.l2_sp,
    )
    why = "Every layer was then trained from there at a small rate, which refines features and does not overwrite them."
    return fine_tune(task, network, [phase], params, **heads.facts(task, probe, why))
