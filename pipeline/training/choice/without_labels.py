"""Choosing where labels are too few to decide: guards first, then what blends of unlabelled images say.

A few labels can still refuse: half of them are held out once, and whoever does surely worse on these than the baseline
is out. What no guard refuses is ranked by MixVal, information maximisation and the balance of classes; with a few
labels also by the accuracy on those held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.seeding import derive
from pipeline.data.manifest import Manifest
from pipeline.training.adaptation import guards
from pipeline.training.choice import answering, validators
from pipeline.training.choice.contest import Contender, Decision, require_baseline, tie_sentence
from pipeline.training.choice.examining import Examiner
from pipeline.training.choice.pairing import Paired
from pipeline.training.choice.trying import Attempt, depends_on_the_seed
from pipeline.training.classifiers import folds
from pipeline.training.task import Task

if TYPE_CHECKING:
    import pandas as pd

JUDGED_IMAGES = 2000
"""Target training images that networks are judged on at most; the same for all."""


class _Judge:
    """Everything that contenders are held against."""

    def __init__(self, examiner: Examiner) -> None:
        self.examiner = examiner
        self.task, self.device = examiner.task, examiner.device
        self.seed = derive(examiner.context.seed, "auto", "judge")
        self.sample = _sample(self.task.target.split("train"), self.seed)
        known = self.task.all_set.labels if self.task.labels_from == "target" else self.task.source_set.labels
        self.prior = guards.expected_prior(known, len(self.task.classes))
        self.held_out = _half_of_the_labels(self.task, self.seed)
        self.probabilities: dict[str, np.ndarray] = {}

    def judge(self, contender: Contender, attempted: Attempt, baseline: Contender | None) -> None:
        """Score a fitted contender and let the guards look at it."""
        answers = answering.probabilities(self.examiner.logits(attempted.network, self.sample))
        self.probabilities[contender.name] = answers
        network = attempted.network.to(self.device)
        contender.scores = validators.judge(
            network, self.task.unlabelled(self.sample), answers, self.prior, seed=self.seed, device=self.device
        )
        network.to("cpu")
        contender.guards = attempted.guards
        if self.held_out is not None:
            self._hold_against_labels(contender, baseline)
        if not contender.why:
            self._guard(contender, answers, baseline)

    def _hold_against_labels(self, contender: Contender, baseline: Contender | None) -> None:
        """Fit with half of the labels, answer the other half; surely worse than the baseline is refused."""
        assert self.held_out is not None, "asked only where labels are held out"
        without = self.task.without(set(self.held_out.frame["id"]))
        tried = self.examiner.fit(contender, without, part="half", to_the_end=baseline is None)
        if tried is None:
            return
        found = self.examiner.logits(tried.network, self.held_out)
        contender.right = found.argmax(axis=1) == self.task.label_space.indices(self.held_out.frame["label"])
        if baseline is None or baseline.right is None:
            return
        pair = Paired.of(contender.right, baseline.right)
        contender.guards["no_worse_on_labels"] = not pair.is_surely_worse()
        if pair.is_surely_worse():
            contender.refuse(
                f"On {pair.images} labelled target images that it did not see it was {-pair.gap:.1%} worse than "
                f"{baseline.name}."
            )

    def _guard(self, contender: Contender, answers: np.ndarray, baseline: Contender | None) -> None:
        """G1, G4 and G5 were measured in training; here are the balance of classes (G2) and the gain over the baseline
        in MixVal and information (G3). A guard that the baseline breaks worse says nothing against whoever replaces it.
        """
        balance = guards.class_balance(answers, self.prior)
        contender.guards["balanced_predictions"] = balance.holds or _is_no_less_balanced(contender, baseline)
        if baseline is not None and self.task.labels_from != "target":
            contender.guards["surer_than_the_baseline"] = _is_surer(contender, baseline)
        broken = [name for name, kept in contender.guards.items() if not kept]
        if broken and baseline is not None:
            why = {
                "balanced_predictions": balance.sentence(self.task.classes),
                "surer_than_the_baseline": "It was not surer than the baseline on both single and blended images.",
                "source_retention": "It forgot more than a fifth of what it knew of the source.",
            }
            contender.refuse(why.get(broken[0], f"Its guard '{broken[0]}' broke."))

    def disagreement(self, one: Contender, other: Contender) -> float:
        """Share of the judged images that the two answer differently."""
        first, second = (self.probabilities[contender.name].argmax(axis=1) for contender in (one, other))
        return float((first != second).mean())


def choose(examiner: Examiner, baseline: str, candidates: list[str], *, repeats: int) -> Decision:
    """Fit ``baseline`` and ``candidates``, those that draw anything under several seeds, and rank what passes.

    Raises:
        TrainingError: the baseline could not be fitted.
    """
    judge = _Judge(examiner)
    reigning: Contender | None = None
    contenders: list[Contender] = []
    for name in [baseline, *(name for name in candidates if name != baseline)]:
        for repeat in range(repeats if depends_on_the_seed(name) and name != baseline else 1):
            contender = Contender(name, repeat)
            contenders.append(contender)
            if reigning is not None and examiner.budget.is_spent:
                examiner.skip(contender)
                continue
            contender.attempt = examiner.fit(contender, examiner.task, to_the_end=reigning is None)
            if contender.attempt is not None:
                judge.judge(contender, contender.attempt, reigning)
            print(f"  auto · {contender.name}: {_told(contender)}", flush=True)
            reigning = reigning or contender
            require_baseline(reigning)
    assert reigning is not None, "the baseline is always tried"
    return _decided(reigning, contenders, judge)


def _is_surer(contender: Contender, baseline: Contender) -> bool:
    """Better in MixVal and in information; entropy alone would favour a baseline that calls everything alike."""
    assert contender.scores is not None, "scored before"
    assert baseline.scores is not None, "scored before"
    ours, theirs = contender.scores, baseline.scores
    return ours.mixval > theirs.mixval and ours.information > theirs.information


def _is_no_less_balanced(contender: Contender, baseline: Contender | None) -> bool:
    if baseline is None or baseline.scores is None or contender.scores is None:
        return False
    return contender.scores.balance >= baseline.scores.balance and not baseline.guards["balanced_predictions"]


def _told(contender: Contender) -> str:
    if contender.scores is None:
        return contender.why
    told = f"MixVal {contender.scores.mixval:.1%}"
    return f"{told} · refused: {contender.why}" if contender.outcome == "refused" else told


def _decided(reigning: Contender, contenders: list[Contender], judge: _Judge) -> Decision:
    """The first in rank among those that surely beat the baseline; without any, the baseline."""
    passed = [one for one in contenders if not one.why and one.scores is not None]
    rivals = [one for one in passed if one is not reigning]
    doubts = {one.name: _doubt(one, reigning, judge.seed, len(rivals)) for one in rivals}
    sure = [one for one in rivals if doubts[one.name] is None]
    winner = _first_by_rank(sure) if sure else reigning
    for contender in rivals:
        if contender is not winner:
            contender.settle("beaten", doubts[contender.name] or f"It ranked behind {winner.name}.")
    if winner is reigning:
        winner.settle("kept", "It is the baseline, and nothing beat it surely.")
        sentences = [f"Nothing that passed the guards surely beat {reigning.name}, so the baseline was kept."]
        rival = _first_by_rank(rivals) if rivals else None
    else:
        winner.settle("chosen", "It surely beat the baseline, and ranked first among those that did.")
        reigning.settle("beaten", f"It is the baseline, and {winner.name} surely beat it.")
        beside = _blends(winner, reigning).told(judge.seed)
        sentences = [f"{winner.name} ranked first: on blended target images it was {beside} against {reigning.name}."]
        rival = reigning
    if rival is not None:
        sentences.append(tie_sentence(rival.name, winner.name, judge.disagreement(rival, winner)))
    selection = "guards and blended target images, no label"
    if judge.held_out is not None:
        selection = f"guards, blended target images and {len(judge.held_out)} held-out labels"
    return Decision(winner, contenders, sentences, selection)


def _blends(contender: Contender, reigning: Contender) -> Paired:
    assert contender.scores is not None, "ranked"
    assert reigning.scores is not None, "the baseline is scored"
    return Paired.of_blends(contender.scores.kept, reigning.scores.kept, reigning.scores.pairs)


def _doubt(contender: Contender, reigning: Contender, seed: int, comparisons: int) -> str | None:
    """Why a contender may yet be no better than the baseline, as a sentence; None if it surely is better.

    Held-out labels prove it where they are enough; else blends must, and the labels may not speak against it. Either
    would do, so each is asked for half of the error that the two may make.
    """
    blends = _blends(contender, reigning)
    if contender.right is not None and reigning.right is not None:
        comparisons *= 2
        on_labels = Paired.of(contender.right, reigning.right)
        if on_labels.is_sure(comparisons) and not blends.is_surely_worse():
            return None
        if on_labels.gap < 0:
            return f"{reigning.name} was right on more of the held-out labels."
    if blends.is_sure(comparisons):
        return None
    return f"Its gain may be chance: {blends.told(seed)} against {reigning.name} on blended target images."


def _first_by_rank(contenders: list[Contender]) -> Contender:
    """The lowest sum of ranks; of equals the first, which is the cheaper.

    Information compares how sure answers are. That is fair between networks whose probabilities were fitted on the same
    source; with a few target labels some heads have no fitted temperature, so held-out labels take its place.
    """
    scores = [one.scores for one in contenders if one.scores is not None]
    columns = [[score.mixval for score in scores], [score.balance for score in scores]]
    accuracies = [one.accuracy for one in contenders if one.accuracy is not None]
    columns.append(accuracies if len(accuracies) == len(scores) else [score.information for score in scores])
    return contenders[int(np.argmin(validators.rank_sums(*columns)))]


def _sample(manifest: Manifest, seed: int) -> Manifest:
    rows = np.random.default_rng(seed).permutation(len(manifest))[:JUDGED_IMAGES]
    return Manifest(manifest.frame.iloc[np.sort(rows)].reset_index(drop=True))


def _half_of_the_labels(task: Task, seed: int) -> Manifest | None:
    """Half of the labelled target images of each class, and of the groups they come in; what stays has a training image
    of each class that has any. None where that cannot be had."""
    import pandas as pd

    if task.labels_from != "target":
        return None
    labelled = Manifest(pd.concat([task.train.frame, task.val.frame], ignore_index=True))
    halves = _every_other(labelled, seed) if labelled.groups is None else _half_of_the_groups(labelled, seed)
    for is_held_out in halves:
        staying = labelled.where(~is_held_out)
        taught = [part.split("train").frame["label"].nunique() for part in (staying, labelled)]
        if is_held_out.any() and taught[0] == taught[1]:
            return labelled.where(is_held_out)
    return None


def _every_other(labelled: Manifest, seed: int) -> Iterator[pd.Series]:
    """Of each class, a training image being the first to stay."""
    shuffled = labelled.frame.sample(frac=1, random_state=seed % 2**32)
    trained_first = shuffled.sort_values("split", key=lambda split: split != "train", kind="stable")
    yield (trained_first.groupby("label").cumcount() % 2 == 1).sort_index()


def _half_of_the_groups(labelled: Manifest, seed: int) -> Iterator[pd.Series]:
    """Either half."""
    labels = labelled.frame["label"].astype("category").cat.codes.to_numpy()
    for part in folds.stratified(labels, labelled.groups, 2, seed=seed % 2**32):
        yield labelled.frame.index.to_series().isin(part.held_out)
