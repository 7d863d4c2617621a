"""Multi-task learning: one trunk learns the labelled images of both domains at once; the source's head is dropped.

Caruana, "Multitask Learning" (1997). Every step takes a batch of each domain, the smaller set over and over, and each
domain is normalised by BatchNorm statistics of its own.

Loss, over source images x [B, 3, S, S] with labels y, and target images x′ [B′, 3, S, S] with labels y′:
    mean_i( −log softmax(source_head(trunk(x_i)))[y_i] ) + λ · mean_i( −log softmax(head(trunk(x′_i)))[y′_i] )
with λ fixed, ramped from 1 to 3 over the first half, or searched on the target's validation split. Where the source has
classes that the target lacks it gets a head of its own, else both heads are one. At last the head alone is tuned on the
target.

Helps: few target labels and a source that is near.
Hurts: a source that is far or labelled otherwise pulls the trunk away: then lp_ft is better.
Cost: some 1,200 steps, each over a batch of either domain; three times that where λ is searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.training.adaptation.params import TwoDomainParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.adaptation.multitask import SourceTask, Trained
    from pipeline.training.task import Fitted, Task

SUMMARY = "labelled source and target over one trunk, target weighted by λ"
NEEDS = ("labels", "target_labels", "source", "features", "pixels")

SEARCHED = (0.3, 1.0, 3.0)
"""Values of λ that are tried."""


class Params(TwoDomainParams):
    """How much the target counts, and who answers for the source."""

    name: Literal["multitask"] = "multitask"
    weighting: Literal["ramped", "fixed", "searched"] = "ramped"
    """λ: from 1 to 3, always ``target_weight``, or the best of 0.3, 1 and 3 on the target's validation split."""
    target_weight: float = Field(1.0, gt=0)
    """λ where it is fixed."""
    heads: Literal["auto", "shared", "separate"] = "auto"
    """``auto``: separate where the source has classes that the target does not have."""
    tune_epochs: int = Field(3, ge=0)
    """Of the head alone on the target's labels, at the end; 0 leaves it."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Both domains, then the head.

    Raises:
        ParamsError: λ is to be searched without a validation split to judge by.
    """
    from pipeline.core.device import choose
    from pipeline.training.adaptation import multitask
    from pipeline.training.adaptation.adapt import balance_of
    from pipeline.training.classifiers.heads import facts
    from pipeline.training.task import Fitted

    separate = params.heads == "separate" or (params.heads == "auto" and multitask.has_other_classes(task))
    source = multitask.source_task(task, separate=separate)
    trained, chosen, weighted = _trained(task, source, params)
    if params.tune_epochs:
        trained = multitask.tune(task, trained, params.tune_epochs, params.learning_rate)
    device = choose(context.device)
    balance = balance_of(task, trained.network.to(device), device)
    known = facts(task, trained.probe, weighted, _about_heads(source), balance.sentence(task.classes))
    known["chosen"] |= chosen
    record = task.record(
        params,
        history=trained.outcome.history,
        groups=trained.outcome.groups,
        guards={**multitask.guards_of(trained.outcome), "balanced_predictions": balance.holds},
        val_accuracy=trained.val and trained.val.accuracy,
        **known,
    )
    return Fitted(trained.network.to("cpu"), record)


def _trained(task: Task, source: SourceTask, params: Params) -> tuple[Trained, dict[str, float], str]:
    """The network, the λ that was chosen, and a sentence on it."""
    from pipeline.training.adaptation import multitask

    if params.weighting == "searched":
        return _searched(task, source, params)
    if params.weighting == "fixed":
        weight, told = multitask.fixed(params.target_weight), f"was {params.target_weight:g} throughout"
    else:
        weight, told = multitask.ramped, "rose from 1 to 3 over the first half of training"
    trained = multitask.train(task, source, params, weight, params.name)
    return trained, {}, f"The weight λ of the target's loss {told}."


def _searched(task: Task, source: SourceTask, params: Params) -> tuple[Trained, dict[str, float], str]:
    """Train with every λ; the one with the lowest validation loss stays."""
    from pipeline.training.adaptation import multitask

    if task.val_images is None:
        _refuse_search()
    tried = {
        weight: multitask.train(task, source, params, multitask.fixed(weight), f"{params.name}_{weight:g}")
        for weight in SEARCHED
    }
    losses = {weight: trained.val.loss for weight, trained in tried.items() if trained.val is not None}
    best = min(losses, key=losses.__getitem__)
    listed = ", ".join(f"{loss:.3f} with {weight:g}" for weight, loss in losses.items())
    told = f"The weight λ of the target's loss was chosen on validation, by cross-entropy: {listed}."
    return tried[best], {"target_weight": best}, told


def _refuse_search() -> None:
    from pipeline.core.errors import ParamsError

    raise ParamsError(
        expected="a validation split with three images of each class to search λ on",
        found="too few labelled target images to hold any out",
        where="train.strategy.weighting in params.yaml",
        remedy="Set it to 'ramped' or 'fixed', or label more images.",
    )


def _about_heads(source: SourceTask) -> str:
    if source.own_classes is None:
        return "Source and target shared one head."
    return f"The source's {source.own_classes} classes had a head of their own, which was dropped at the end."
