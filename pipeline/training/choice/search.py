"""The search behind ``auto``: what there is, what to try, how to decide, and the record of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from pipeline.core.context import Context
from pipeline.core.device import choose as choose_device
from pipeline.core.errors import TrainingError
from pipeline.core.seeding import derive
from pipeline.models.heads import CosineHead, LinearHead
from pipeline.models.network import Network
from pipeline.training.choice import by_labels, without_labels
from pipeline.training.choice.baseline import baseline_of
from pipeline.training.choice.budget import Budget
from pipeline.training.choice.contest import Contender, Decision
from pipeline.training.choice.examining import Examiner
from pipeline.training.choice.pairing import Paired
from pipeline.training.choice.situation import Situation
from pipeline.training.classifiers import heads, linear_probe
from pipeline.training.classifiers.linear_probe import Head
from pipeline.training.record import TrainingRecord
from pipeline.training.task import Fitted, Task

if TYPE_CHECKING:
    from pipeline.training.strategies.auto import Params

SOURCE_PENALTY = 1e-2
"""Of the probe that asks whether the source's labels agree with the target's: any sensible one does."""


def choose(task: Task, params: Params, context: Context) -> Fitted:
    """Find the strategy that fits ``task``, within the budget.

    Raises:
        TrainingError: not even the baseline could be fitted.
    """
    agreement = _source_agreement(task)
    situation = Situation.of(task, source_misleads=agreement is not None and agreement.misleads)
    candidates = list(params.candidates if params.candidates is not None else situation.candidates)
    baseline = baseline_of(task, situation)
    budget = Budget(params.budget_minutes)
    examiner = Examiner(task, params.settings, budget, context, choose_device(context.device))
    print(
        f"  auto · {situation.sentence} Trying {', '.join(dict.fromkeys([baseline.strategy, *candidates]))}.",
        flush=True,
    )

    def decide(reigning: str, others: list[str]) -> Decision:
        if situation.labels_decide:
            return by_labels.choose(examiner, reigning, others)
        return without_labels.choose(examiner, reigning, others, repeats=params.repeats)

    weighed = [agreement and agreement.sentence, baseline.sentence]
    try:
        decision = decide(baseline.strategy, candidates)
    except TrainingError as error:
        if baseline.otherwise is None:
            raise
        weighed.append(f"{error} So the baseline is {baseline.otherwise}.")
        decision = decide(baseline.otherwise, [name for name in candidates if name != baseline.strategy])
    return _told(params, situation, [sentence for sentence in weighed if sentence], decision)


class Agreement(NamedTuple):
    """Whether the source's labels mean what the target's mean."""

    misleads: bool
    sentence: str


def _source_agreement(task: Task) -> Agreement | None:
    """Do the source's classes fit the target's labels under their own names, or surely better under others?

    A source whose classes carry the target's names and mean something else would mislead every strategy that uses it.
    A probe of the source answers the labelled target images; the names that would make most of these answers right are
    found by linear assignment. Few right answers alone prove nothing: the domains may only be far apart. So the names
    are found on one half of the images and judged on the other, either way round: the best of all names for noise is
    better than its own, on the images that they were found on.
    """
    if task.labels_from != "target" or not len(task.source.split("train")):
        return None
    head = next(linear_probe.path(task.source_set, [SOURCE_PENALTY], len(task.classes)))
    labels = task.all_set.labels
    answers = head.logits(task.all_set.features).argmax(axis=1)
    renamed = _renamed(answers, labels, len(task.classes), derive(task.context.seed, "auto", "names"))
    others = Paired.of(renamed == labels, answers == labels)
    told = (
        f"A probe of the source names {int((answers == labels).sum())} of {len(labels)} labelled target images rightly"
    )
    if not others.is_sure():
        return Agreement(False, f"{told}.")
    better = int((renamed == labels).sum())
    return Agreement(True, f"{told}, and {better} if its classes had other names, so the source was left out.")


def _renamed(answers: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """The answers [n] under the best names that the other half of the images suggests; both have of each class."""
    renamed = answers.copy()
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    for own, other in ((shuffled[0::2], shuffled[1::2]), (shuffled[1::2], shuffled[0::2])):
        renamed[own] = _best_names(answers[other], labels[other], classes)[answers[own]]
    return renamed


def _best_names(answers: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """For each answered class the label that it would have to carry, [classes]."""
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((classes, classes))
    np.add.at(together, (answers, labels), 1)
    return linear_sum_assignment(together + 1e-3 * np.eye(classes), maximize=True)[1]


def _told(params: Params, situation: Situation, weighed: list[str], decision: Decision) -> Fitted:
    """The winner's network, calibrated where that is honest, and the whole story as its record."""
    winner = decision.winner
    assert winner.attempt is not None, "the winner is fitted"
    assert winner.attempt.fitted is not None, "the winner is fitted"
    fitted = winner.attempt.fitted
    record = fitted.record
    calibrated = _calibrate(fitted.network, decision.temperature)
    tried = [one for one in decision.contenders if one.outcome != "not tried"]
    excused = [name for name, kept in winner.guards.items() if kept and not record.guards.get(name, True)]
    story = [
        situation.sentence,
        *weighed,
        f"{len(tried)} of {len(decision.contenders)} candidates were tried: {_names(tried)}.",
        *(f"{one.name} was refused: {_lower(one.why)}" for one in decision.contenders if one.outcome == "refused"),
        *_untried(decision.contenders),
        *decision.sentences,
        *([f"Its guard '{excused[0]}' broke, but the baseline breaks it worse."] if excused else []),
        *([calibrated] if calibrated else []),
    ]
    told: TrainingRecord = record.model_copy(
        update={
            "strategy": params.name,
            "params": params.model_dump(mode="json"),
            "chose": winner.strategy,
            "selection": decision.selection,
            # What the strategy measured for itself was measured otherwise than the selection says.
            "val_accuracy": None,
            "cv_accuracy": winner.accuracy if situation.labels_decide else None,
            "guards": {**record.guards, **winner.guards},
            "sentences": [record.sentences[0], *story, *record.sentences[1:]],
            "candidates": [contender.row() for contender in decision.contenders],
        }
    )
    trials = [trial for contender in decision.contenders for trial in contender.trials]
    return Fitted(fitted.network, told, fitted.preprocessing, trials)


def _calibrate(network: Network, temperature: float) -> str | None:
    """Divide the logits by ``temperature``, where the head allows it."""
    if temperature == 1.0:
        return None
    head = network.head
    with torch.no_grad():
        if isinstance(head, LinearHead):
            tempered = Head(head.weight.numpy(), head.bias.numpy()).tempered(temperature)
            heads.set_linear(network, tempered)
        elif isinstance(head, CosineHead):
            head.scale.div_(temperature)
        else:
            return None
    return f"Its probabilities were calibrated on held-out target labels (temperature {temperature:.2f})."


def _names(contenders: list[Contender]) -> str:
    return ", ".join(dict.fromkeys(contender.strategy for contender in contenders))


def _untried(contenders: list[Contender]) -> list[str]:
    left = [contender for contender in contenders if contender.outcome == "not tried"]
    names = ", ".join(contender.name for contender in left)
    return [f"The budget was spent before {names} could be judged."] if left else []


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
