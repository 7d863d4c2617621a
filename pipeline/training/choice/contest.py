"""What both ways of choosing share: candidates under trial, the verdict on each, and the sentences about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.core.errors import TrainingError
from pipeline.training.choice.trying import Attempt
from pipeline.training.choice.validators import Scores
from pipeline.training.record import Candidate, Outcome, Trial

CONFIDENCE_AND_POWER = 1.96 + 0.84
"""Normal quantiles: 95 % confidence, and four times in five."""

WORTH_KNOWING = 0.05
"""A smaller gap than five points is told as if it were that large where nothing is known of it."""


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
    """bool [n], on which of the labelled target images that it was not fitted to it was right."""
    guards: dict[str, bool] = field(default_factory=dict)
    outcome: Outcome = "beaten"
    why: str = ""
    """Empty until its outcome is settled."""
    was_dropped: bool = False
    """Did it fall behind when the weaker half was dropped?"""

    @property
    def name(self) -> str:
        return self.strategy if self.repeat == 0 else f"{self.strategy} (seed {self.repeat + 1})"

    @property
    def accuracy(self) -> float | None:
        return None if self.right is None or not len(self.right) else float(self.right.mean())

    def refuse(self, why: str) -> None:
        self.outcome, self.why = "refused", why

    def cut(self, why: str) -> None:
        """The budget ended its training: what it has shown until then stands."""
        self.settle("not tried" if self.right is None and self.scores is None else "beaten", why)

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


def require_baseline(reigning: Contender) -> None:
    """Nothing can be decided without it.

    Raises:
        TrainingError: the baseline could not be fitted; with the reason.
    """
    if reigning.outcome == "refused":
        raise TrainingError(f"The baseline '{reigning.strategy}' could not be fitted. {reigning.why}")


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
    """Random target images to label so that the better of two networks shows with 95 % confidence, four times in five.

    They answer differently on a share ``disagreement`` of all images, and differ by ``gap`` in accuracy: the mean of n
    differences in {−1, 0, 1} has variance (disagreement − gap²) / n, and n is where (1.96 + 0.84) standard errors equal
    the gap. None where the two never disagree.
    """
    if disagreement <= 0:
        return None
    gap = min(abs(gap), disagreement)
    return int(np.ceil(max(1.0, CONFIDENCE_AND_POWER**2 * (disagreement - gap**2) / gap**2)))


def tie_sentence(first: str, second: str, disagreement: float, gap: float = WORTH_KNOWING) -> str:
    """The offer to label images that would decide between two."""
    gap = min(max(abs(gap), 0.01), disagreement)  # below one point it is not worth labelling for
    count = labels_to_settle(disagreement, gap)
    if count is None:
        return f"{first} and {second} answer every target image alike: no label could tell them apart."
    return (
        f"{first} and {second} answer {disagreement:.0%} of the target's images differently; if they are "
        f"{100 * gap:.1f} points apart, labelling about {count:,} random ones would show it four times in five."
    )
