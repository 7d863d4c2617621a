"""Co-Tuning: fine-tune for the target's classes, and for those of the checkpoint's own head that they relate to.

You et al., "Co-Tuning for Transfer Learning" (NeurIPS 2020); p(y_s | y_t) by its direct form, without the calibration
that would need the pretraining data.

Loss, over labelled images x [B, 3, S, S] of classes y, with features f [B, D]:
    mean_i( −log softmax(head(f_i))[y_i] ) + trade_off · mean_i( −Σ_s p(s | y_i) · log softmax(source_head(f_i))_s )
where row p(· | y) is the mean softmax of the checkpoint's own head over the training images of class y, before any
training. The source's head holds the backbone to what it knew; it is dropped at the end. It is trained at the rate of
the last block, which here is the new head's too; the authors give the new head ten times that of all else.

Helps: some ten to fifty labels per class, and classes akin to those of the checkpoint (birds to other birds).
Hurts: where the checkpoint knows the very same classes from another domain: its unsure answers there are then taught
as if classes were akin (lp_ft or multitask do better). With many labels it adds nothing.
Cost: as lp_ft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.training.fine_tuning_params import FineTuneParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "fine-tuning that also keeps the checkpoint's own related classes"
NEEDS = ("labels", "target_labels", "checkpoint_head", "features", "pixels")


class Params(FineTuneParams):
    """As lp_ft, and how much the checkpoint's classes count."""

    name: Literal["co_tuning"] = "co_tuning"
    trade_off: float = Field(2.3, ge=0)
    """Weight of the source's classes, against 1 of the target's."""
    learning_rate: float = Field(3e-4, gt=0)
    """Of both heads and the last block."""
    weight_decay: float = Field(5e-4, ge=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Probe, relationship of classes, then every group trainable under both losses."""
    from pipeline.models.heads import LinearHead
    from pipeline.training.adaptation.relationship import CoTuning, relationship
    from pipeline.training.classifiers import heads
    from pipeline.training.fine_tuning import fine_tune

    network = task.pretrained_network()
    probe = heads.starting_head(task, network)
    assert task.backbone.head is not None  # as NEEDS says
    source_head = LinearHead.restored(task.backbone.head)
    rows = relationship(source_head, task.train_set if task.holds_out else task.all_set, len(task.classes))
    phase = params.phase("co_tune", tuple(network.row.blocks))
    objective = CoTuning(source_head, rows, params.trade_off, params.learning_rate)
    told = (
        f"The checkpoint's own head of {rows.shape[1]:,} classes was trained along, towards those that it saw in each "
        "target class, and dropped at the end."
    )
    return fine_tune(task, network, [phase], params, objective=objective, **heads.facts(task, probe, told))
