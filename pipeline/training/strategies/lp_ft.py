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

from pipeline.training.fine_tuning_params import FineTuneParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "linear probe, then all layers at a small rate"
NEEDS = ("labels", "features", "pixels")


class Params(FineTuneParams):
    """The fine-tuning phase; the probe needs no tuning."""

    name: Literal["lp_ft"] = "lp_ft"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Probe, then every group trainable."""
    from pipeline.training.classifiers import heads
    from pipeline.training.fine_tuning import fine_tune

    network = task.pretrained_network()
    probe = heads.starting_head(task, network)
    phase = params.phase("fine_tune", tuple(network.row.blocks))
    why = "Every layer was then trained from there at a small rate, which refines features and does not overwrite them."
    return fine_tune(task, network, [phase], params, **heads.facts(task, probe, why))
