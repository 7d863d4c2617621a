"""AdaBN: BatchNorm statistics of the target in place of the source's; no weight changes.

Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation" (2016).

No loss. In every BatchNorm layer, over all target images and positions of channel c:
    mean[c] ← E[x_c],  var[c] ← Var[x_c]
The head is a probe on features under the statistics of the images it learns from, or the checkpoint's own.

Helps: where the domains differ in contrast, colour, noise or sensor; it costs next to nothing. Li et al.: SVHN → MNIST
and Office +2 … +6 points.
Hurts: few target images, or classes in other proportions than where the head was learnt: the statistics then follow the
proportions.
Cost: one forward pass per target image; two more per labelled one where the backbone was not trained on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "BatchNorm statistics of the target, weights untouched"
NEEDS = ("unlabelled", "features", "pixels", "batch_norm")


class Params(PluginParams):
    """Nothing to choose."""

    name: Literal["adabn"] = "adabn"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Head under the labelled images' statistics, then the target's."""
    from pipeline.training.adaptation import own_statistics
    from pipeline.training.task import Fitted

    network, facts = own_statistics.starting_network(task)
    own_statistics.restate(network, task.target_images, context.device)
    facts["sentences"] += [
        f"BatchNorm statistics were estimated anew from {len(task.target_images):,} target images; no weight changed."
    ]
    return Fitted(network, task.record(params, val_accuracy=own_statistics.held_out_accuracy(task, network), **facts))
