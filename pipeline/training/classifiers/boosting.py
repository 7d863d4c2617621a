"""TrAdaBoost over linear probes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.training.classifiers.folds import joined
from pipeline.training.classifiers.linear_probe import UNSEEN_BIAS, Fitter, Head
from pipeline.training.task import Labelled

ERROR_BOUNDS = (0.01, 0.49)
"""Of a hypothesis on the target: at 0 its vote would be endless, at ½ the weights would stop to move."""


class Boosted(NamedTuple):
    """The vote after some rounds."""

    head: Head
    source_share: float
    """Of the total weight, what the source's images have left."""


def tradaboost(
    target: Labelled, source: Labelled, penalty: float, rounds: Sequence[int], classes: int
) -> Iterator[Boosted]:
    """The vote after each number of ``rounds`` (ascending).

    Both domains begin with half of the weight (the paper leaves that free): an error on the target below ½, on which
    boosting rests, is then likely however large the source is. In each round a weighted probe h is fitted to both
    domains. With its weighted error ε on the target, β_t = ε / (1 − ε), β = 1 / (1 + √(2 ln n_s / N)) and N the last of
    ``rounds``, images that h gets wrong change their weights: the source's times β (they mislead), the target's divided
    by β_t (as AdaBoost does). The probes of the second half vote with log(1 / β_t); a weighted mean of their logits
    instead of their answers keeps the result one linear head.
    """
    both = joined(target, source)
    is_target = np.arange(len(both)) < len(target)
    weights = np.where(is_target, 0.5 / len(target), 0.5 / len(source))
    fall = 1 / (1 + math.sqrt(2 * math.log(max(2, len(source))) / rounds[-1]))
    probe = Fitter(both, classes)
    heads: list[Head] = []
    votes: list[float] = []
    for number in range(1, rounds[-1] + 1):
        weights = weights / weights.mean()
        head = probe.fit(penalty, weights)
        wrong = head.logits(both.features).argmax(axis=1) != both.labels
        error = float(np.average(wrong[is_target], weights=weights[is_target]))
        odds = np.clip(error, *ERROR_BOUNDS) / (1 - np.clip(error, *ERROR_BOUNDS))
        weights = weights * np.where(wrong, np.where(is_target, 1 / odds, fall), 1.0)
        heads.append(head)
        votes.append(math.log(1 / odds))
        if number in rounds:
            half = (number + 1) // 2 - 1
            yield Boosted(_vote(heads[half:], votes[half:]), float(weights[~is_target].sum() / weights.sum()))


def _vote(heads: Sequence[Head], votes: Sequence[float]) -> Head:
    """The weighted mean of linear heads."""
    shares = np.array(votes) / np.sum(votes)
    bias = np.tensordot(shares, np.stack([head.bias for head in heads]), axes=1).astype(np.float32)
    bias[heads[0].bias == np.float32(UNSEEN_BIAS)] = UNSEEN_BIAS
    return Head(np.tensordot(shares, np.stack([head.weight for head in heads]), axes=1).astype(np.float32), bias)
