"""Partial fine-tuning: the first blocks stay frozen, the others follow at rates that fall towards the input.

Yosinski et al., "How transferable are features in deep neural networks?" (2014); discriminative rates from Howard
and Ruder (2018). The head starts from the probe's solution and not from noise, so that the first steps do not wash the
features out.

Loss, over images x [B, 3, S, S] and labels y [B]:
    mean_i( −log softmax(head(backbone(x_i)))[y_i] )
for the weights of the trainable blocks; frozen blocks keep weights and BatchNorm statistics, bit for bit.

Helps: some ten to a hundred images per class, target not too far from what the backbone was trained on.
Hurts: where early features do not fit (other spectra, textures, drawings): use lp_ft or full.
Cost: as lp_ft, less the backward pass through the frozen blocks; without augmentation, less the forward pass through
them too, but for one over all images, as their outputs are kept (``train.memory_mb``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.errors import ParamsError
from pipeline.training.fine_tuning_params import FineTuneParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.models.backbones import Backbone
    from pipeline.training.task import Fitted, Task

SUMMARY = "first blocks frozen, the others fine-tuned at falling rates"
NEEDS = ("labels", "features", "pixels")


class Params(FineTuneParams):
    """What stays frozen, and how fast the rest moves."""

    name: Literal["partial"] = "partial"
    frozen_blocks: int | None = Field(None, ge=0)
    """How many blocks, from the input on, stay frozen; null freezes all but the last two."""
    block_decay: float = Field(0.5, gt=0, le=1)


def check(params: Params, row: Backbone) -> None:
    """Before a run begins.

    Raises:
        ParamsError: ``frozen_blocks`` is more than the backbone has.
    """
    if params.frozen_blocks is None or params.frozen_blocks <= len(row.blocks):
        return
    raise ParamsError(
        expected=f"at most the {len(row.blocks)} blocks of {row.name}: {', '.join(row.blocks)}",
        found=str(params.frozen_blocks),
        where="train.strategy.frozen_blocks in params.yaml",
        remedy="Lower it, or use the strategy 'probe', which freezes every block.",
    )


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Probe head, then the last blocks and the head.

    Raises:
        ParamsError: as :func:`check` does.
    """
    from pipeline.training.classifiers import heads
    from pipeline.training.fine_tuning import fine_tune

    network = task.pretrained_network()
    check(params, network.row)
    blocks = tuple(network.row.blocks)
    frozen = max(1, len(blocks) - 2) if params.frozen_blocks is None else params.frozen_blocks
    probe = heads.starting_head(task, network)
    phase = params.phase("fine_tune", blocks, frozen=frozen)
    why = "The last blocks were then trained from there: features of the first ones fit most images as they are."
    return fine_tune(task, network, [phase], params, **heads.facts(task, probe, why))
