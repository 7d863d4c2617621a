"""No transfer: the same architecture from random weights, on the same labels. The honest zero line.

He et al., "Rethinking ImageNet Pre-training" (2019): with enough labels and time it catches up; with few it does not.

Loss, over images x [B, 3, S, S] and labels y [B]:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] )

Helps: as the comparison that says what transfer is worth, and where no pretrained weights fit at all.
Hurts: nearly everywhere else (VTAB with 1,000 labels, Flowers: 40 % against 89 %).
Cost: the most epochs of all strategies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams
from pipeline.training.phases import Phase

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "random weights, no transfer: the zero line"
NEEDS = ("labels", "pixels")


class Params(PluginParams):
    """One phase from random weights."""

    name: Literal["scratch"] = "scratch"
    epochs: int = Field(40, gt=0)
    """A small set is passed over several times per epoch."""
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    patience: int | None = Field(10, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """One phase, everything trainable, BatchNorm statistics learned from the target."""
    from pipeline.training.fine_tuning import fine_tune

    network = task.random_network()
    phase = Phase(
        name="scratch",
        epochs=params.epochs,
        learning_rates=dict.fromkeys(network.groups, params.learning_rate),
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        batch_norm="train",
        patience=params.patience,
    )
    why = "Every layer was trained from random weights: the zero line that says what transfer is worth."
    return fine_tune(task, network, [phase], params, sentences=[why])
