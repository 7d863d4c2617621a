"""The search behind ``auto``: what there is, what to try, how to decide, and the record of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline.core.context import Context
from pipeline.core.device import choose as choose_device
from pipeline.core.errors import TrainingError
from pipeline.evaluation.intervals import wilson
from pipeline.models.heads import CosineHead, LinearHead
from pipeline.models.network import Network
from pipeline.training.choice import by_labels, without_labels
from pipeline.training.choice.budget import Budget
from pipeline.training.choice.contest import Contender, Decision
from pipeline.training.choice.situation import ENOUGH_PER_CLASS, Situation
from pipeline.training.classifiers import linear_probe
from pipeline.training.record import TrainingRecord
from pipeline.training.task import Fitted, Task

if TYPE_CHECKING:
    from pipeline.training.strategies.auto import Params

BASELINE = "probe"
FEW_LABELS_BASELINE = "class_mean"
"""Below ten labels per class: it has nothing to overfit with, and was ahead of the probe by 5 to 25 points on ants_bees
with one to five labels per class (a set that no table in the docs uses)."""
CHECKPOINT_BASELINE = "as_is"
"""Where all there is is a checkpoint with its head."""

SOURCE_PENALTY = 1e-2
"""Of the probe that asks whether the source's labels agree with the target's: any sensible one does."""


def choose(task: Task, params: Params, context: Context) -> Fitted:
    """Find the strategy that fits ``task``, within the budget.

    Raises:
        TrainingError: not even the baseline could be fitted.
    """
    agreement = _source_agreement(task)
    situation = Situation.of(task, source_misleads=agreement is not None and not agreement[0])
    candidates = list(params.candidates if params.candidates is not None else situation.candidates)
    baseline = _baseline(task, situation)
    budget, device = Budget(params.budget_minutes), choose_device(context.device)
    print(f"  auto · {situation.sentence} Trying {', '.join([baseline, *candidates])}.", flush=True)
    if situation.per_class >= ENOUGH_PER_CLASS:
        decision = by_labels.choose(task, baseline, candidates, params.settings, budget, context, device)
    else:
        decision = without_labels.choose(
            task, baseline, candidates, params.settings, budget, context, device, repeats=params.repeats
        )
    return _told(task, params, situation, agreement and agreement[1], decision)


def _baseline(task: Task, situation: Situation) -> str:
    if task.labels_from == "checkpoint":
        return CHECKPOINT_BASELINE
    return FEW_LABELS_BASELINE if situation.labels == "few" else BASELINE


def _source_agreement(task: Task) -> tuple[bool, str] | None:
    """Is a probe of the source right about labelled target images more often than by chance? And the sentence on it.

    A source whose classes carry the target's names and mean something else would mislead every strategy that uses it.
    """
    if task.labels_from != "target" or not len(task.source.split("train")):
        return None
    head = next(linear_probe.path(task.source_set, [SOURCE_PENALTY], len(task.classes)))
    labelled = task.all_set
    hits = int((head.logits(labelled.features).argmax(axis=1) == labelled.labels).sum())
    interval = wilson(hits, len(labelled))
    assert interval is not None, "there are labelled images"
    agrees = interval.low > 1 / len(task.classes)
    told = f"A probe of the source names {hits} of {len(labelled)} labelled target images rightly"
    return agrees, f"{told}." if agrees else f"{told}, no more than by chance, so the source was left out."


def _told(task: Task, params: Params, situation: Situation, agreement: str | None, decision: Decision) -> Fitted:
    """The winner's network, calibrated where that is honest, and the whole story as its record."""
    winner = decision.winner
    if winner.attempt is None or winner.attempt.fitted is None:
        raise TrainingError(f"Not even the baseline could be fitted: {winner.why}")
    network, record, preprocessing, _ = winner.attempt.fitted
    own = record.sentences[1:]
    calibrated = _calibrate(network, decision.temperature)
    tried = [one for one in decision.contenders if one.outcome != "not tried"]
    story = [
        situation.sentence,
        *([agreement] if agreement else []),
        f"{len(tried)} of {len(decision.contenders)} candidates were tried: {_names(tried)}.",
        *(f"{one.name} was refused: {_lower(one.why)}" for one in decision.contenders if one.outcome == "refused"),
        *_untried(decision.contenders),
        *decision.sentences,
        *([calibrated] if calibrated else []),
    ]
    told: TrainingRecord = record.model_copy(
        update={
            "strategy": params.name,
            "params": params.model_dump(mode="json"),
            "chose": winner.strategy,
            "selection": decision.selection,
            "sentences": [record.sentences[0], *story, *own],
            "candidates": [contender.row() for contender in decision.contenders],
        }
    )
    trials = [trial for contender in decision.contenders for trial in contender.trials]
    return Fitted(network, told, preprocessing, trials)


def _calibrate(network: Network, temperature: float) -> str | None:
    """Divide the logits by ``temperature``, where the head allows it."""
    if temperature == 1.0:
        return None
    head = network.head
    with torch.no_grad():
        if isinstance(head, LinearHead):
            head.weight.div_(temperature)
            head.bias.div_(temperature)
        elif isinstance(head, CosineHead):
            head.scale.div_(temperature)
        else:
            return None
    return f"Its probabilities were calibrated on held-out target labels (temperature {temperature:.2f})."


def _names(contenders: list[Contender]) -> str:
    return ", ".join(dict.fromkeys(contender.strategy for contender in contenders))


def _untried(contenders: list[Contender]) -> list[str]:
    left = [contender for contender in contenders if contender.outcome == "not tried"]
    return [f"The budget was spent before {_names(left)} could be tried."] if left else []


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
