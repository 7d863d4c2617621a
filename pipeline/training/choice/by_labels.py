"""Choosing on target labels: three-fold cross-validation, the weaker half dropped after each fold.

Successive halving (Jamieson and Talwalkar, 2016) over folds: the first fold tries everybody, each further one the
better half. The baseline stays to the end, since it ships unless it is beaten by the interval.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from pipeline.core.context import Context
from pipeline.core.seeding import derive
from pipeline.evaluation.intervals import Interval, paired_gain
from pipeline.training.choice import answering
from pipeline.training.choice.budget import Budget
from pipeline.training.choice.contest import Contender, Decision, tie_sentence
from pipeline.training.choice.trying import attempt
from pipeline.training.classifiers.temperature import fit_temperature
from pipeline.training.objectives import UNLABELLED, Images
from pipeline.training.record import Outcome
from pipeline.training.task import Task

FOLDS = 3
RESAMPLES = 2000
SELECTION = f"{FOLDS}-fold cross-validation"


class _Judge:
    """The folds of a task, and the answers of contenders to the images held out in each."""

    def __init__(self, task: Task, settings: dict[str, dict[str, Any]], context: Context, device: torch.device) -> None:
        import pandas as pd
        from sklearn.model_selection import StratifiedKFold

        from pipeline.data.manifest import Manifest

        self.task, self.settings, self.context, self.device = task, settings, context, device
        self.labelled = Manifest(pd.concat([task.train.frame, task.val.frame], ignore_index=True))
        self.labels = task.label_space.indices(self.labelled.frame["label"])
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=derive(context.seed, "auto", "folds") % 2**32)
        self.folds = [held_out for _, held_out in splitter.split(self.labels, self.labels)]
        self.logits: dict[str, np.ndarray] = {}
        self.folds_done: dict[str, int] = {}

    def judge(self, contender: Contender, fold: int) -> None:
        """Fit without one fold, answer that fold."""
        rows = self.folds[fold]
        held_out = self.labelled.where(self.labelled.frame.index.to_series().isin(rows))
        without = self.task.without(set(held_out.frame["id"]))
        settings = self.settings.get(contender.strategy, {})
        tried = attempt(without, contender.strategy, 0, settings, self.context, part=f"fold-{fold}")
        if tried.fitted is None:
            contender.refuse(tried.failure or "It could not be fitted.")
            return
        contender.trials.append(tried.trial)
        broken = [name for name, kept in tried.fitted.record.guards.items() if not kept]
        contender.guards |= tried.fitted.record.guards
        if broken:
            contender.refuse(f"Its guard '{broken[0]}' broke.")
            return
        images = Images(self.task.bank(held_out), np.full(len(rows), UNLABELLED, dtype=np.int64))
        features = self.task.target_features.of(held_out)
        found = answering.logits(tried.network, images, features, without, self.device)
        kept = self.logits.setdefault(contender.strategy, np.zeros((len(self.labels), found.shape[1]), np.float32))
        kept[rows] = found
        self.folds_done[contender.strategy] = fold + 1
        seen = np.concatenate(self.folds[: fold + 1])
        contender.right = kept[seen].argmax(axis=1) == self.labels[seen]

    def gain(self, one: Contender, other: Contender) -> tuple[float, Interval]:
        """Accuracy of ``one`` less that of ``other`` on the images both have answered, and its interval."""
        assert one.right is not None, "judged before"
        assert other.right is not None, "judged before"
        count = min(len(one.right), len(other.right))
        first, second = one.right[:count], other.right[:count]
        fixed, broken = int((first & ~second).sum()), int((~first & second).sum())
        seed = derive(self.context.seed, "auto", "bootstrap")
        interval = paired_gain(fixed, broken, count, resamples=RESAMPLES, seed=seed)
        return (fixed - broken) / count, interval

    def disagreement(self, one: Contender, other: Contender) -> float:
        """Share of the labelled images that the two answer differently."""
        answers = [self.logits[contender.strategy].argmax(axis=1) for contender in (one, other)]
        return float((answers[0] != answers[1]).mean())


def choose(
    task: Task,
    baseline: str,
    candidates: list[str],
    settings: dict[str, dict[str, Any]],
    budget: Budget,
    context: Context,
    device: torch.device,
) -> Decision:
    """Cross-validate ``baseline`` and ``candidates``, and fit the winner to everything."""
    judge = _Judge(task, settings, context, device)
    reigning = Contender(baseline)
    contenders = [reigning, *(Contender(name) for name in candidates if name != baseline)]
    alive = list(contenders)
    for fold in range(FOLDS):
        for contender in alive:
            if contender is not reigning and budget.is_spent:
                _give_up(contender, budget, fold)
            else:
                judge.judge(contender, fold)
                _say(contender, fold)
        alive = [contender for contender in alive if contender.outcome == "beaten"]
        alive = _better_half(alive, reigning) if fold + 1 < FOLDS else alive
    return _decided(task, reigning, alive, contenders, judge)


def _say(contender: Contender, fold: int) -> None:
    told = contender.why if contender.accuracy is None else f"{contender.accuracy:.1%} right"
    print(f"  auto · fold {fold + 1} · {contender.name}: {told}", flush=True)


def _give_up(contender: Contender, budget: Budget, fold: int) -> None:
    if fold == 0:
        contender.settle("not tried", f"The budget of {budget.minutes:g} minutes was spent.")
    else:
        contender.settle("beaten", f"The budget was spent after {fold} of {FOLDS} folds; it was not ahead by then.")


def _better_half(alive: list[Contender], reigning: Contender) -> list[Contender]:
    """The better half, those level with its last, and the baseline."""
    ranked = sorted(alive, key=lambda contender: -(contender.accuracy or 0.0))
    last = ranked[max(2, math.ceil(len(ranked) / 2)) - 1 :][:1] or ranked[-1:]
    for contender in alive:
        behind = (last[0].accuracy or 0.0) - (contender.accuracy or 0.0)
        if behind > 0 and contender is not reigning:
            contender.settle("beaten", f"It was {behind:.1%} behind the better half when the weaker half was dropped.")
    return [contender for contender in alive if not contender.why]


def _decided(
    task: Task, reigning: Contender, alive: list[Contender], contenders: list[Contender], judge: _Judge
) -> Decision:
    whole = [contender for contender in alive if judge.folds_done.get(contender.strategy) == FOLDS]
    best = max(whole, key=lambda contender: contender.accuracy or 0.0)  # of equals the first, which is the cheaper
    sentences = []
    winner = best
    if best is not reigning:
        gap, interval = judge.gain(best, reigning)
        beside = f"{gap:+.1%} ({interval.low:+.1%} to {interval.high:+.1%}) on {len(judge.labels):,} labelled images"
        if interval.low <= 0:
            winner = reigning
            best.settle("beaten", f"Its gain over {reigning.name}, {beside}, may be chance.")
            sentences.append(
                f"{best.name} had the best cross-validated accuracy, but its gain over {reigning.name} "
                f"was {beside}: it may be chance, so the baseline was kept."
            )
            sentences.append(tie_sentence(best.name, reigning.name, judge.disagreement(best, reigning), gap))
        else:
            sentences.append(f"{best.name} beat {reigning.name} by {beside}.")
    else:
        sentences.append(f"No candidate had a better cross-validated accuracy than {reigning.name}.")
    for contender in whole:
        if contender not in (winner, best):
            gap, _ = judge.gain(contender, winner)
            contender.settle("beaten", f"It was {gap:+.1%} against {winner.name} over all folds.")
    fit_on_everything(task, winner, judge)
    outcome: Outcome = "kept" if winner is reigning else "chosen"
    winner.settle(outcome, "It is the baseline, and nothing beat it surely." if outcome == "kept" else sentences[-1])
    temperature = fit_temperature(judge.logits[winner.strategy], judge.labels)
    return Decision(winner, contenders, sentences, SELECTION, temperature)


def fit_on_everything(task: Task, winner: Contender, judge: _Judge) -> None:
    """The winner once more, with no label held out."""
    settings = judge.settings.get(winner.strategy, {})
    winner.attempt = attempt(task, winner.strategy, 0, settings, judge.context)
    if winner.attempt.fitted is not None:
        winner.trials.append(winner.attempt.trial)
