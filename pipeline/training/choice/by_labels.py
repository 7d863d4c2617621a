"""Choosing on target labels: three-fold cross-validation, the weaker half dropped after each fold.

Successive halving (Jamieson and Talwalkar, 2016) over folds: the first fold tries everybody, each further one the
better half. The baseline stays to the end, since it ships unless it is surely beaten.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.seeding import derive
from pipeline.training.choice.contest import Contender, Decision, require_baseline, tie_sentence
from pipeline.training.choice.examining import Examiner
from pipeline.training.choice.pairing import Paired
from pipeline.training.choice.situation import FOLDS
from pipeline.training.choice.trying import Attempt
from pipeline.training.classifiers import folds
from pipeline.training.classifiers.temperature import fit_temperature
from pipeline.training.task import Task

SELECTION = f"{FOLDS}-fold cross-validation"


class _Judge:
    """The folds of a task, and the answers of contenders to the images held out in each."""

    def __init__(self, examiner: Examiner) -> None:
        self.examiner = examiner
        task, seed = examiner.task, examiner.context.seed
        self.labelled = task.cross_validated
        self.labels = task.label_space.indices(self.labelled.frame["label"])
        split = folds.stratified(self.labels, self.labelled.groups, FOLDS, seed=derive(seed, "auto", "folds") % 2**32)
        self.folds = [part.held_out for part in split]
        self.logits: dict[str, np.ndarray] = {}
        self.seed = derive(seed, "auto", "bootstrap")

    def judge(self, contender: Contender, fold: int, *, to_the_end: bool) -> None:
        """Fit without one fold, answer that fold."""
        rows = self.folds[fold]
        held_out = self.labelled.where(self.labelled.frame.index.to_series().isin(rows))
        try:
            without = self.examiner.task.without(set(held_out.frame["id"]))
        except DataError as error:  # groups may hold a whole class
            contender.refuse(f"Without fold {fold + 1} there would be {error.found}.")
            return
        tried = self.fit(contender, without, part=f"fold-{fold}", to_the_end=to_the_end)
        if tried is None:
            return
        found = self.examiner.logits(tried.network, held_out)
        kept = self.logits.setdefault(contender.strategy, np.zeros((len(self.labels), found.shape[1]), np.float32))
        kept[rows] = found
        seen = np.concatenate(self.folds[: fold + 1])
        contender.right = kept[seen].argmax(axis=1) == self.labels[seen]

    def fit(self, contender: Contender, task: Task, *, part: str, to_the_end: bool) -> Attempt | None:
        """Fit the contender; refuse it where that fails or breaks a guard."""
        tried = self.examiner.fit(contender, task, part=part, to_the_end=to_the_end)
        if tried is None:
            return None
        contender.guards |= tried.guards
        broken = [name for name, kept in tried.guards.items() if not kept]
        if broken:
            contender.refuse(f"Its guard '{broken[0]}' broke.")
            return None
        return tried

    def temperature(self, contender: Contender) -> float:
        """That of its logits to held-out images; classes that a fold had no label of have no part in it."""
        logits = self.logits[contender.strategy].astype(np.float64)
        for rows in self.folds:
            others = np.delete(self.labels, rows)
            logits[np.ix_(rows, np.bincount(others, minlength=logits.shape[1]) == 0)] = -np.inf
        known = np.isfinite(logits[np.arange(len(logits)), self.labels])
        return fit_temperature(logits[known], self.labels[known]) if known.any() else 1.0

    def disagreement(self, one: Contender, other: Contender) -> float:
        """Share of the labelled images that both have answered on which they differ."""
        count = min(len(judged.right) for judged in (one, other) if judged.right is not None)
        seen = np.concatenate(self.folds)[:count]
        first, second = (self.logits[contender.strategy][seen].argmax(axis=1) for contender in (one, other))
        return float((first != second).mean())


def choose(examiner: Examiner, baseline: str, candidates: list[str]) -> Decision:
    """Cross-validate ``baseline`` and ``candidates``, and fit the winner to everything.

    Raises:
        TrainingError: the baseline could not be fitted.
    """
    judge = _Judge(examiner)
    reigning = Contender(baseline)
    contenders = [reigning, *(Contender(name) for name in candidates if name != baseline)]
    alive = list(contenders)
    for fold in range(len(judge.folds)):
        for contender in alive:
            if contender is not reigning and examiner.budget.is_spent:
                _give_up(contender, examiner, fold)
                continue
            judge.judge(contender, fold, to_the_end=contender is reigning)
            told = contender.why or f"{contender.accuracy or 0:.1%} right"
            print(f"  auto · fold {fold + 1} · {contender.name}: {told}", flush=True)
            require_baseline(reigning)
        alive = [contender for contender in alive if not contender.why]
        if fold + 1 < len(judge.folds):
            alive = _better_half(alive, reigning)
    return _decided(reigning, contenders, judge)


def _give_up(contender: Contender, examiner: Examiner, fold: int) -> None:
    if fold == 0:
        examiner.skip(contender)
    else:
        contender.settle("beaten", f"The budget was spent after {fold} of {FOLDS} folds.")


def _better_half(alive: list[Contender], reigning: Contender) -> list[Contender]:
    """The better half, those level with its last, and the baseline."""
    ranked = sorted(alive, key=lambda contender: -(contender.accuracy or 0.0))
    last = ranked[min(len(ranked), max(2, math.ceil(len(ranked) / 2))) - 1]
    for contender in alive:
        behind = (last.accuracy or 0.0) - (contender.accuracy or 0.0)
        if behind > 0 and contender is not reigning:
            contender.settle("beaten", f"It was {behind:.1%} behind the better half when the weaker half was dropped.")
            contender.was_dropped = True
    return [contender for contender in alive if not contender.why]


def _decided(reigning: Contender, contenders: list[Contender], judge: _Judge) -> Decision:
    """The best that surely beats the baseline on the images both have answered; without any, the baseline."""
    assert reigning.right is not None, "the baseline is judged in every fold"
    rivals = [one for one in contenders if one is not reigning and one.outcome == "beaten" and one.right is not None]
    pairs = {one.name: Paired.of(one.right, reigning.right) for one in rivals if one.right is not None}
    # What the budget cut may still be ahead; what fell behind in a halving is not.
    ahead = [one for one in rivals if not one.was_dropped]
    best = max(ahead, key=lambda one: pairs[one.name].gap, default=None)  # of equals the first, which is the cheaper
    sentences, winner = [], reigning
    if best is None or pairs[best.name].gap <= 0:
        sentences.append(f"No candidate had a better cross-validated accuracy than {reigning.name}.")
    else:
        pair = pairs[best.name]
        beside = f"{pair.told(judge.seed)} on {pair.images:,} labelled images"
        if pair.is_sure(len(rivals)):
            winner = best
            sentences.append(f"{best.name} beat {reigning.name} by {beside}.")
        else:
            sentences.append(
                f"{best.name} had the best cross-validated accuracy, but its gain over {reigning.name}, {beside}, may "
                f"be chance among {len(rivals)} candidates, so the baseline was kept."
            )
            sentences.append(tie_sentence(best.name, reigning.name, judge.disagreement(best, reigning), pair.gap))
    winner, sentences = _fitted_to_everything(winner, reigning, sentences, judge)
    _settle(winner, reigning, rivals, pairs)
    temperature = judge.temperature(winner) if _is_whole(winner, judge) else 1.0
    return Decision(winner, contenders, sentences, SELECTION, temperature)


def _is_whole(contender: Contender, judge: _Judge) -> bool:
    return contender.right is not None and len(contender.right) == len(judge.labels)


def _fitted_to_everything(
    winner: Contender, reigning: Contender, sentences: list[str], judge: _Judge
) -> tuple[Contender, list[str]]:
    """The winner once more, with no label held out; the baseline, where that fails or breaks a guard."""
    winner.attempt = judge.fit(winner, judge.examiner.task, part="whole", to_the_end=True)
    if winner.attempt is not None or winner is reigning:
        require_baseline(reigning)
        return winner, sentences
    failed = f"Fitted to all labels, {winner.name} failed ({winner.why}), so the baseline was kept."
    return _fitted_to_everything(reigning, reigning, [*sentences, failed], judge)


def _settle(winner: Contender, reigning: Contender, rivals: list[Contender], pairs: dict[str, Paired]) -> None:
    for contender in rivals:
        if contender is not winner and not contender.why:
            pair = pairs[contender.name]
            contender.settle("beaten", f"It was {pair.gap:+.1%} against {reigning.name} on {pair.images:,} images.")
    if winner is reigning:
        winner.settle("kept", "It is the baseline, and nothing beat it surely.")
    else:
        winner.settle("chosen", f"It surely beat {reigning.name}: {pairs[winner.name].gap:+.1%}.")
        reigning.settle("beaten", f"It is the baseline, and {winner.name} surely beat it.")
