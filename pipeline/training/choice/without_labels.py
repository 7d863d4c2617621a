"""Choosing where labels are too few to decide: guards first, then what blends of unlabelled images say.

A few labels can still refuse: half of them are held out once, and whoever does surely worse on these than the baseline
is out. What no guard refuses is ranked by MixVal, information maximisation and the balance of classes; with a few
labels also by the accuracy on those held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from pipeline.core.context import Context
from pipeline.core.seeding import derive
from pipeline.data.manifest import Manifest
from pipeline.evaluation.intervals import difference, paired_gain
from pipeline.training.adaptation import guards
from pipeline.training.choice import answering, validators
from pipeline.training.choice.budget import Budget
from pipeline.training.choice.contest import Contender, Decision, tie_sentence
from pipeline.training.choice.trying import Attempt, attempt, depends_on_the_seed
from pipeline.training.objectives import UNLABELLED, Images
from pipeline.training.task import Task

JUDGED_IMAGES = 2000
"""Target training images that networks are judged on at most; the same for all."""

RESAMPLES = 2000


class _Judge:
    """Everything that contenders are held against."""

    def __init__(self, task: Task, settings: dict[str, dict[str, Any]], context: Context, device: torch.device) -> None:
        self.task, self.settings, self.context, self.device = task, settings, context, device
        self.seed = derive(context.seed, "auto", "judge")
        sample = _sample(task.target.split("train"), self.seed)
        self.images = Images(task.bank(sample), np.full(len(sample), UNLABELLED, dtype=np.int64))
        self.features = task.target_features.of(sample)
        known = task.all_set.labels if task.labels_from == "target" else task.source_set.labels
        self.prior = guards.expected_prior(known, len(task.classes))
        self.held_out = _half_of_the_labels(task, self.seed)
        self.probabilities: dict[str, np.ndarray] = {}

    def judge(self, contender: Contender, attempted: Attempt, baseline: Contender | None) -> None:
        """Score a fitted contender and let the guards look at it."""
        found = answering.logits(attempted.network, self.images, self.features, self.task, self.device)
        answers = answering.probabilities(found)
        self.probabilities[contender.name] = answers
        network = attempted.network.to(self.device)
        contender.scores = validators.judge(
            network, self.images, answers, self.prior, seed=self.seed, device=self.device
        )
        network.to("cpu")
        contender.guards = dict(attempted.fitted.record.guards) if attempted.fitted else {}
        if self.held_out is not None:
            self._hold_against_labels(contender, baseline)
        if contender.outcome != "refused":
            self._guard(contender, answers, baseline)

    def _hold_against_labels(self, contender: Contender, baseline: Contender | None) -> None:
        """Fit with half of the labels, answer the other half; surely worse than the baseline is refused."""
        assert self.held_out is not None, "asked only where labels are held out"
        without = self.task.without(set(self.held_out.frame["id"]))
        settings = self.settings.get(contender.strategy, {})
        tried = attempt(without, contender.strategy, contender.repeat, settings, self.context, part="half")
        if tried.fitted is None:
            contender.refuse(tried.failure or "It could not be fitted to half of the labels.")
            return
        contender.trials.append(tried.trial)
        images = Images(self.task.bank(self.held_out), np.full(len(self.held_out), UNLABELLED, dtype=np.int64))
        features = self.task.target_features.of(self.held_out)
        found = answering.logits(tried.network, images, features, without, self.device)
        contender.right = found.argmax(axis=1) == self.task.label_space.indices(self.held_out.frame["label"])
        if baseline is None or baseline.right is None:
            return
        fixed = int((contender.right & ~baseline.right).sum())
        broken = int((~contender.right & baseline.right).sum())
        interval = paired_gain(fixed, broken, len(contender.right), resamples=RESAMPLES, seed=self.seed)
        contender.guards["no_worse_on_labels"] = not interval.high < 0
        if interval.high < 0:
            contender.refuse(
                f"On {len(contender.right)} labelled target images that it did not see it was "
                f"{(broken - fixed) / len(contender.right):.1%} worse than {baseline.name}."
            )

    def _guard(self, contender: Contender, answers: np.ndarray, baseline: Contender | None) -> None:
        """G1, G4 and G5 were measured in training; here are the balance of classes (G2) and the gain over the baseline
        in MixVal and certainty (G3). A guard that the baseline breaks worse says nothing against whoever replaces it.
        """
        balance = guards.class_balance(answers, self.prior)
        contender.guards["balanced_predictions"] = balance.holds or _is_no_less_balanced(contender, baseline)
        if baseline is not None and self.task.labels_from != "target":
            contender.guards["surer_than_the_baseline"] = self._is_surer(contender, baseline)
        broken = [name for name, kept in contender.guards.items() if not kept]
        if broken and baseline is not None:
            why = {
                "balanced_predictions": balance.sentence(self.task.classes),
                "surer_than_the_baseline": "It was not surer than the baseline on both single and blended images.",
                "source_retention": "It forgot more than a fifth of what it knew of the source.",
            }
            contender.refuse(why.get(broken[0], f"Its guard '{broken[0]}' broke."))

    def _is_surer(self, contender: Contender, baseline: Contender) -> bool:
        assert contender.scores is not None, "scored before"
        assert baseline.scores is not None, "scored before"
        doubt, before = (self._mean_entropy(one) for one in (contender, baseline))
        return contender.scores.mixval > baseline.scores.mixval and doubt < before

    def _mean_entropy(self, contender: Contender) -> float:
        return float(np.mean([validators.entropy(row) for row in self.probabilities[contender.name]]))

    def disagreement(self, one: Contender, other: Contender) -> float:
        """Share of the judged images that the two answer differently."""
        first, second = (self.probabilities[contender.name].argmax(axis=1) for contender in (one, other))
        return float((first != second).mean())


def choose(
    task: Task,
    baseline: str,
    candidates: list[str],
    settings: dict[str, dict[str, Any]],
    budget: Budget,
    context: Context,
    device: torch.device,
    *,
    repeats: int,
) -> Decision:
    """Fit ``baseline`` and ``candidates``, those that draw anything under several seeds, and rank what passes."""
    judge = _Judge(task, settings, context, device)
    reigning: Contender | None = None
    contenders: list[Contender] = []
    for name in [baseline, *(name for name in candidates if name != baseline)]:
        for repeat in range(repeats if depends_on_the_seed(name) and name != baseline else 1):
            contender = Contender(name, repeat)
            contenders.append(contender)
            if reigning is not None and budget.is_spent:
                contender.settle("not tried", f"The budget of {budget.minutes:g} minutes was spent.")
                continue
            _try(contender, judge, reigning)
            print(f"  auto · {contender.name}: {_told(contender)}", flush=True)
            reigning = reigning or contender
    assert reigning is not None, "the baseline is always tried"
    return _decided(reigning, contenders, judge)


def _is_no_less_balanced(contender: Contender, baseline: Contender | None) -> bool:
    if baseline is None or baseline.scores is None or contender.scores is None:
        return False
    return contender.scores.balance >= baseline.scores.balance and not baseline.guards["balanced_predictions"]


def _try(contender: Contender, judge: _Judge, reigning: Contender | None) -> None:
    settings = judge.settings.get(contender.strategy, {})
    attempted = attempt(judge.task, contender.strategy, contender.repeat, settings, judge.context)
    contender.attempt = attempted
    if attempted.fitted is None:
        contender.refuse(attempted.failure or "It could not be fitted.")
        return
    contender.trials.append(attempted.trial)
    judge.judge(contender, attempted, reigning)


def _told(contender: Contender) -> str:
    if contender.scores is None:
        return contender.why
    told = f"MixVal {contender.scores.mixval:.1%}"
    return f"{told} · refused: {contender.why}" if contender.outcome == "refused" else told


def _decided(reigning: Contender, contenders: list[Contender], judge: _Judge) -> Decision:
    passed = [one for one in contenders if one.outcome == "beaten" and one.scores is not None]
    best = _first_by_rank(passed)
    winner, sentences = reigning, []
    if best is reigning:
        sentences.append(f"Nothing that passed the guards ranked before {reigning.name}, so the baseline was kept.")
    else:
        doubt, beside = _doubt(best, reigning)
        if doubt is None:
            winner = best
            sentences.append(f"{best.name} ranked first among what passed the guards; {beside}.")
        else:
            best.settle("beaten", f"It ranked first, but {doubt}.")
            sentences.append(f"{best.name} ranked first, but {doubt}: {beside}. So the baseline was kept.")
        sentences.append(tie_sentence(best.name, reigning.name, judge.disagreement(best, reigning), 0.05))
    for contender in passed:
        if contender not in (winner, best):
            contender.settle("beaten", f"It ranked behind {best.name}.")
    if winner is reigning:
        winner.settle("kept", "It is the baseline, and nothing beat it surely.")
    else:
        winner.settle("chosen", "It ranked first and passed every guard.")
    selection = "guards and blended target images, no label"
    if judge.held_out is not None:
        selection = f"guards, blended target images and {len(judge.held_out)} held-out labels"
    return Decision(winner, contenders, sentences, selection)


def _doubt(best: Contender, reigning: Contender) -> tuple[str | None, str]:
    """Why the first in rank may yet be no better than the baseline, None if it surely is; and the figures beside it."""
    assert best.scores is not None, "ranked"
    assert reigning.scores is not None, "the baseline is scored"
    ours, theirs = ((scores.kept, max(1, scores.blends)) for scores in (best.scores, reigning.scores))
    interval = difference(ours, theirs)
    gap = best.scores.mixval - reigning.scores.mixval
    beside = f"on blended target images it was {gap:+.1%} ({interval.low:+.1%} to {interval.high:+.1%})"
    beside += f" against {reigning.name}"
    behind = best.accuracy is not None and reigning.accuracy is not None and best.accuracy < reigning.accuracy
    if behind:
        return f"{reigning.name} was right on more of the held-out labels", beside
    return (None if interval.low > 0 else "its gain may be chance"), beside


def _first_by_rank(passed: list[Contender]) -> Contender:
    """The lowest sum of ranks; of equals the first, which is the cheaper."""
    sums = validators.rank_sums([one.scores for one in passed if one.scores is not None])
    accuracies = [one.accuracy for one in passed]
    if all(accuracy is not None for accuracy in accuracies):
        sums = sums + rankdata([-(accuracy or 0.0) for accuracy in accuracies], method="average")
    return passed[int(np.argmin(sums))]


def _sample(manifest: Manifest, seed: int) -> Manifest:
    rows = np.random.default_rng(seed).permutation(len(manifest))[:JUDGED_IMAGES]
    return Manifest(manifest.frame.iloc[np.sort(rows)].reset_index(drop=True))


def _half_of_the_labels(task: Task, seed: int) -> Manifest | None:
    """Every other labelled target image of each class, at least one of each staying; None where none can be spared."""
    import pandas as pd

    if task.labels_from != "target":
        return None
    frame = pd.concat([task.train.frame, task.val.frame], ignore_index=True)
    shuffled = frame.sample(frac=1, random_state=seed % 2**32)
    place = shuffled.groupby("label").cumcount()
    held_out = shuffled[place % 2 == 1].sort_index()
    return Manifest(held_out.reset_index(drop=True)) if len(held_out) else None
