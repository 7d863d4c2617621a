"""SHOT: the head stays, and the backbone moves until the head is sure of each target image and uses every class.

Liang et al., "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
Adaptation" (ICML 2020).

Loss, over target images x [B, 3, S, S] with p_i = softmax(head(backbone(x_i))) [C] and their mean p̄:
    mean_i H(p_i) − H(p̄) + pseudo_label_weight · mean_i( −log p_i[ŷ_i] )
where H is the entropy and ŷ_i the class whose centroid of target features is nearest by cosine, renewed each epoch.

After each epoch the network must still know what it knew: at least 80 % of its accuracy on a card of held-out source
images or, with no source, of its answers to the target images that it was surest of. If not, the epoch is taken back
and the rates are halved; the second time training ends there.

Helps: the strongest adaptation without source images (digits 79 → 98 %, Office-31 79 → 89 % in the paper).
Hurts: it assumes that classes are about equally frequent; and under a large shift it may settle on a consistent
exchange of classes, which the card notices more often than not.
Cost: each epoch a pass forward and backward over the target images, and one forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams
from pipeline.training.phases import Phase

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.adaptation.retention import Card
    from pipeline.training.engine import Outcome
    from pipeline.training.task import Fitted, Task

SUMMARY = "head frozen, backbone adapted to sure and varied answers; no source needed"
NEEDS = ("unlabelled", "features", "pixels")


class Params(PluginParams):
    """One phase over the backbone."""

    name: Literal["shot"] = "shot"
    epochs: int = Field(15, gt=0)
    """A small set is passed over several times per epoch."""
    learning_rate: float | None = Field(None, gt=0)
    """Of the backbone; null: 1e-4 for published architectures, 1e-3 for small_cnn, which has little to preserve."""
    weight_decay: float = Field(1e-4, ge=0)
    pseudo_label_weight: float = Field(0.3, ge=0)
    """0 leaves information maximisation alone (SHOT-IM)."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Target statistics, one guarded phase over the backbone, statistics once more."""
    from pipeline.core.device import choose
    from pipeline.training.adaptation import own_statistics
    from pipeline.training.adaptation.adapt import balance_of
    from pipeline.training.adaptation.guards import LEAST_RETENTION
    from pipeline.training.adaptation.retention import card_for
    from pipeline.training.adaptation.source_free import InformationMaximisation
    from pipeline.training.engine import fit as train
    from pipeline.training.task import Fitted

    network, facts = own_statistics.starting_network(task)
    card = card_for(task, network)
    own_statistics.restate(network, task.target_images, context.device)
    rate = params.learning_rate or (1e-3 if network.row.home == "graftline" else 1e-4)
    phase = Phase(
        name="shot",
        epochs=params.epochs,
        learning_rates={**dict.fromkeys(network.groups, rate), "head": None},
        weight_decay=params.weight_decay,
        batch_norm="train",
        keep="last",
    )
    objective = InformationMaximisation(task.target_images, params.pseudo_label_weight, card)
    outcome = train(network, [phase], task.target_images, None, task.options, context, objective=objective, name="shot")
    own_statistics.restate(network, task.target_images, context.device)
    device = choose(context.device)
    network.to(device)
    kept, balance = card.retention(network, device), balance_of(task, network, device)
    network.to("cpu")
    facts["sentences"] += [_told(outcome, card, kept), *outcome.breaches, balance.sentence(task.classes)]
    guards = {card.term: kept >= LEAST_RETENTION, "balanced_predictions": balance.holds}
    record = task.record(
        params,
        history=outcome.history,
        groups=outcome.groups,
        guards={**outcome.guards, **guards},
        val_accuracy=own_statistics.held_out_accuracy(task, network),
        **facts,
    )
    return Fitted(network, record)


def _told(outcome: Outcome, card: Card, kept: float) -> str:
    """How much of the training was kept, and how much of what was known before."""
    run, refused = len(outcome.history), len(outcome.breaches)
    return (
        f"With the head frozen, the backbone was adapted to the target for {run - refused} of {run} epochs; "
        f"{kept:.0%} of what was right before on {card.of} is right still."
    )
