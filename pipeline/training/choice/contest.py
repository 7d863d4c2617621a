"""What both ways of choosing share: candidates under trial, the verdict on each, and the sentences about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.training.choice.trying import Attempt
from pipeline.training.choice.validators import Scores
from pipeline.training.record import Candidate, Outcome, Trial

Z = 1.959963984540054


@dataclass
class Contender:
    """A candidate, and all that was found out about it."""

    strategy: str
    repeat: int = 0
    attempt: Attempt | None = None
    """The fit on everything, if it was made."""
    trials: list[Trial] = field(default_factory=list)
    scores: Scores | None = None
    right: np.ndarray | None = None
    """[n] bool, its answers on labelled target images that it was not fitted to, NaN-free on ``judged`` rows."""
    guards: dict[str, bool] = field(default_factory=dict)
    outcome: Outcome = "beaten"
    why: str = ""

    @property
    def name(self) -> str:
        return self.strategy if self.repeat == 0 else f"{self.strategy} (seed {self.repeat + 1})"

    @property
    def accuracy(self) -> float | None:
        return None if self.right is None or not len(self.right) else float(self.right.mean())

    def refuse(self, why: str) -> None:
        self.outcome, self.why = "refused", why

    def settle(self, outcome: Outcome, why: str) -> None:
        self.outcome, self.why = outcome, why

    def row(self) -> Candidate:
        """As the record keeps it."""
        scores = self.scores
        return Candidate(
            strategy=self.strategy,
            repeat=self.repeat,
            outcome=self.outcome,
            accuracy=self.accuracy,
            judged=0 if self.right is None else len(self.right),
            mixval=scores and scores.mixval,
            information=scores and scores.information,
            balance=scores and scores.balance,
            guards=self.guards,
            network_mb=round(self.attempt.network_mb, 3) if self.attempt and self.attempt.fitted else None,
            why=self.why,
        )


class Decision(NamedTuple):
    """Who won, and all sentences about how."""

    winner: Contender
    contenders: list[Contender]
    """All, in the order they were tried."""
    sentences: list[str]
    selection: str
    temperature: float = 1.0
    """Divides the winner's logits; fitted on target labels, 1 where there are none to fit it on."""


def labels_to_settle(disagreement: float, gap: float) -> int | None:
    """Random target images to label so that the better of two networks shows with 95 % confidence.

    They answer differently on a share ``disagreement`` of all images, and differ by ``gap`` in accuracy: the mean of n
    differences in {−1, 0, 1} has variance (disagreement − gap²) / n, and n is where 1.96 standard errors equal the gap.
    None where the two never disagree.
    """
    if disagreement <= 0:
        return None
    gap = min(max(abs(gap), 0.01), disagreement)  # a gap below one point is not worth labelling for
    return int(np.ceil(max(1.0, Z**2 * (disagreement - gap**2) / gap**2)))


def tie_sentence(first: str, second: str, disagreement: float, gap: float) -> str:
    """The offer to label images that would decide between two."""
    count = labels_to_settle(disagreement, gap)
    if count is None:
        return f"{first} and {second} answer every target image alike: no label could tell them apart."
    return (
        f"{first} and {second} answer {disagreement:.0%} of the target's images differently; labelling about {count:,} "
        "random ones would show which is better."
    )
