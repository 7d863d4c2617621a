"""TrAdaBoost: source images that contradict the target's labels lose their weight round by round.

Dai, Yang, Xue and Yu, "Boosting for Transfer Learning" (ICML 2007), over linear probes.

Loss of round t, over both domains' features x [n, D], labels y and weights w_t [n] with mean 1:
    mean_i( −w_ti log softmax(W x̂_i + b)[y_i] ) + (penalty / 2) · ‖W‖²
Wrong source images then get w · β, β = 1 / (1 + √(2 ln n_s / rounds)); wrong target images w / β_t, β_t = ε_t /
(1 − ε_t) with ε_t the weighted error on the target. The second half of the probes vote with log(1 / β_t), as one linear
head.

Helps: few target labels and a source of which a part misleads.
Hurts: noisy target labels (they gain weight); a source that agrees (multi-domain probes do as well, in one fit).
Cost: cached features, then ``rounds`` probes per fold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "boosted probes that let go of misleading source images"
NEEDS = ("source", "target_labels", "features")


class Params(PluginParams):
    """How long to boost; the number of rounds that vote is chosen on held-out target images."""

    name: Literal["tradaboost"] = "tradaboost"
    rounds: int = Field(10, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone; the penalty of the target's own probe, which no source can mislead, then boosting with it."""
    from collections.abc import Iterator

    import numpy as np
    from threadpoolctl import threadpool_limits

    from pipeline.training.classifiers import folds, heads
    from pipeline.training.classifiers.boosting import tradaboost
    from pipeline.training.classifiers.linear_probe import choose_penalty
    from pipeline.training.classifiers.selection import choose
    from pipeline.training.task import Fitted

    classes = len(task.classes)
    rounds = sorted({1, params.rounds} | {number for number in (2, 4, 7, 10, 15, 20) if number < params.rounds})
    pairs, selection = folds.of_task(task)
    with threadpool_limits(1):
        penalty, _ = choose_penalty(pairs, heads.penalty_path(), classes)

    def trial(fold: folds.Fold) -> Iterator[np.ndarray]:
        for boosted in tradaboost(fold.fit, task.source_set, penalty, rounds, classes):
            yield boosted.head.logits(fold.held_out.features)

    judged = [fold._replace(fit=folds.joined(task.source_set, fold.fit)) for fold in pairs]  # what a trial is fitted to
    choice = choose(judged, rounds, [trial(fold) for fold in pairs], selection=selection, what="tradaboost")
    with threadpool_limits(1):
        boosts = dict(zip(rounds, tradaboost(task.all_set, task.source_set, penalty, rounds, classes), strict=True))
    kept = boosts[choice.setting]
    network = task.pretrained_network()
    heads.set_linear(network, kept.head.tempered(choice.temperature))
    left = f"the source's images have {kept.source_share:.0%} of the total weight"
    told = f"The backbone stayed frozen; after {choice.setting} round(s) {left}."
    chosen = {"rounds": choice.setting, "penalty": penalty, "temperature": choice.temperature}
    facts = heads.chosen_facts(task, choice, chosen, told)
    return Fitted(network, task.record(params, **facts))
