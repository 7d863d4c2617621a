"""Gradual unfreezing: the head first, then one block more per phase, from the head towards the input.

Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification" (ACL 2018): what the last layers
learned is the most specific, so they move first; by the time an early block is let go, the gradients at it are small.

The head is the probe's solution, which is what its own first phase would tend to. Each phase then minimises, over
images x [B, 3, S, S] and labels y [B],
    mean_i( −log softmax(head(backbone(x_i)))[y_i] )
in the blocks that are free so far, at rates that fall towards the input; the others keep weights and BatchNorm
statistics, bit for bit. A phase ends on its best epoch by validation loss, those it began with included.

Helps: some ten to a hundred images per class, where full fine-tuning forgets and a probe is not enough.
Hurts: little but time; with early features that do not fit, the phases before the last are of no use: use full.
Cost: one short phase per block and a longer one at last: up to twice lp_ft, less what frozen blocks save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.training.fine_tuning_params import FineTuneParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.core.context import Context
    from pipeline.training.phases import Phase
    from pipeline.training.task import Fitted, Task

SUMMARY = "probe, then one block more per phase, from the head down"
NEEDS = ("labels", "features", "pixels")


class Params(FineTuneParams):
    """How long each phase is, and how fast the free blocks move."""

    name: Literal["gradual_unfreeze"] = "gradual_unfreeze"
    epochs_per_block: int = Field(2, gt=0)
    """Of each phase but the last."""
    epochs: int = Field(6, gt=0)
    """Of the last phase, in which every block is free."""
    block_decay: float = Field(1 / 2.6, gt=0, le=1)
    """The paper's 1/2.6."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Probe head, then as many phases as the backbone has blocks."""
    from pipeline.training.classifiers import heads
    from pipeline.training.fine_tuning import fine_tune

    network = task.pretrained_network()
    probe = heads.starting_head(task, network)
    why = "One block more was then trained in each phase, from the head towards the input, at rates that fall that way."
    return fine_tune(task, network, phases(tuple(network.row.blocks), params), params, **heads.facts(task, probe, why))


def phases(blocks: Sequence[str], params: Params) -> list[Phase]:
    """One phase per block, last block first; each is named after the block that it lets go."""
    return [
        params.phase(
            f"from_{blocks[frozen]}", blocks, frozen=frozen, epochs=params.epochs_per_block if frozen else None
        )
        for frozen in reversed(range(len(blocks)))
    ]
