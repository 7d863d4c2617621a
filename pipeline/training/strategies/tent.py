"""Tent: AdaBN, then the scales and shifts of BatchNorm by entropy minimisation.

Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization" (ICLR 2021).

Loss, over target images x [B, 3, S, S] with p_i = softmax(head(backbone(x_i))) [C]:
    mean_i( −Σ_c p_i[c] log p_i[c] )
for scale and shift of each BatchNorm layer alone; batches are normalised by their own statistics meanwhile, and the
statistics are estimated anew from all target images at the end.

Helps: corruptions and changes of sensor, where most answers are already right.
Hurts: where many answers are wrong: it makes the network sure of them. Nothing but the few parameters it moves, and the
single epoch, keeps it from answering one class only.
Cost: AdaBN's, and a pass forward and backward over the target images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams
from pipeline.training.phases import Phase

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "AdaBN, then entropy minimised over BatchNorm's scales and shifts"
NEEDS = ("unlabelled", "features", "pixels", "batch_norm")


class Params(PluginParams):
    """One short phase."""

    name: Literal["tent"] = "tent"
    epochs: int = Field(1, gt=0)
    """A small set is passed over several times per epoch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of the scales and shifts."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """AdaBN, one phase over BatchNorm's parameters, statistics once more."""
    from pipeline.core.device import choose
    from pipeline.training.adaptation import own_statistics
    from pipeline.training.adaptation.adapt import balance_of
    from pipeline.training.adaptation.source_free import Entropy
    from pipeline.training.engine import fit as train
    from pipeline.training.task import Fitted

    network, facts = own_statistics.starting_network(task)
    own_statistics.restate(network, task.target_images, context.device)
    phase = Phase(
        name="tent",
        epochs=params.epochs,
        learning_rates={**dict.fromkeys(network.groups, params.learning_rate), "head": None},
        batch_norm="train",
        keep="last",
        only_batch_norm=True,
    )
    outcome = train(network, [phase], task.target_images, None, task.options, context, objective=Entropy(), name="tent")
    own_statistics.restate(network, task.target_images, context.device)
    device = choose(context.device)
    balance = balance_of(task, network.to(device), device)
    network.to("cpu")
    facts["sentences"] += [
        "BatchNorm's scales and shifts were trained on the entropy of the answers to "
        f"{len(task.target_images):,} target images, {outcome.history[-1].train_loss:.2f} nats on average in the last "
        "epoch; then its statistics were estimated anew from the same images.",
        balance.sentence(task.classes),
    ]
    record = task.record(
        params,
        history=outcome.history,
        groups=outcome.groups,
        guards={**outcome.guards, "balanced_predictions": balance.holds},
        val_accuracy=own_statistics.held_out_accuracy(task, network),
        **facts,
    )
    return Fitted(network, record)
