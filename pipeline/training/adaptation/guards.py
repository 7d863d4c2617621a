"""Guards of adaptation: what can be measured of it without one target label. Pure functions on arrays.

A measure that fails says that the network went wrong; one that holds does not prove that it went right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LEAST_RETENTION = 0.8
"""Of the accuracy on source validation images that an adapted network must keep."""

LEAST_KNOWN = 0.2
"""Share of the way from a constant answer to perfect ones that a network must have gone before it can forget."""

MOST_IMBALANCE = 3.0
"""A class may be answered this many times more, or fewer, than expected."""

CHANCE = 0.05
"""A count of answers breaks the balance only where chance would make it so extreme less often than this."""

PERFECT = 0.995
"""Domain accuracy from which on a discriminator is as good as always right."""


def source_retention(after: float, before: float) -> float:
    """Accuracy on the source's held-out images after adaptation, as a share of that before; 1 where that was zero."""
    return after / before if before > 0 else 1.0


def source_is_retained(after: float, before: float) -> bool:
    """Does the network still know at least 80 % of what it knew of the source?"""
    return source_retention(after, before) >= LEAST_RETENTION


def is_known(before: float, labels: NDArray[np.integer]) -> bool:
    """Was the accuracy before adaptation on images with these ``labels`` [n] well above that of one constant answer?

    Otherwise what is left of it is luck, and no guard.
    """
    constant = np.bincount(labels).max() / len(labels)
    return bool(before >= constant + LEAST_KNOWN * (1 - constant))


class Balance(NamedTuple):
    """How often each class is answered, beside how often it should be."""

    shares: Floats
    """[classes] of all answers."""
    prior: Floats
    """[classes], what was expected."""
    broken: tuple[int, ...]
    """Numbers of the classes that are answered too often or too rarely."""

    @property
    def holds(self) -> bool:
        return not self.broken

    def sentence(self, classes: Sequence[str]) -> str:
        """The verdict for people; where it is bad, with the class furthest off."""
        if self.holds:
            return "Each class is answered about as often as expected."
        worst = max(self.broken, key=lambda number: abs(np.log((self.shares[number] + 1e-9) / self.prior[number])))
        return (
            f"{len(self.broken)} of {len(classes)} classes are answered three times too often or too rarely, or worse; "
            f"most of all '{classes[worst]}': {self.shares[worst]:.1%} of all answers where {self.prior[worst]:.1%} "
            "were expected."
        )


def class_balance(probabilities: Floats, prior: Floats) -> Balance:
    """Judge how often each class is the answer; ``probabilities`` (or logits) [n, classes], ``prior`` [classes].

    A class breaks the balance where its count among n answers is so high that even three times the expected share
    (or so low that even a third of it) would explain it with a probability under 5 %: with few images per class, an
    empty class is no proof of anything. Classes expected never (prior 0) are not judged.
    """
    from scipy.stats import binom

    answers = len(probabilities)
    counts = np.bincount(np.argmax(probabilities, axis=1), minlength=len(prior)) if answers else np.zeros(len(prior))
    most, least = np.minimum(1.0, MOST_IMBALANCE * prior), prior / MOST_IMBALANCE
    too_many = binom.sf(counts - 1, answers, most) < CHANCE  # P(as many or more)
    too_few = binom.cdf(counts, answers, least) < CHANCE
    broken = np.flatnonzero((too_many | too_few) & (prior > 0))
    return Balance(counts / max(1, answers), np.asarray(prior, dtype=np.float64), tuple(broken.tolist()))


def expected_prior(labels: NDArray[np.integer], classes: int) -> Floats:
    """How often each class should be answered, from the labels that are known: (count + 1) / (n + classes), [classes].

    Pass the target's labels where it has any, else the source's: a source is rarely more than the guard's factor of
    three away, and where all that is known is a checkpoint, no labels at all make the prior uniform. The added one
    (Laplace) keeps a few labels from ruling a class out.
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=classes) + 1.0
    return counts / counts.sum()


def discriminator_is_fooled(domain_accuracies: Sequence[float]) -> bool:
    """Was the domain discriminator ever wrong in the second half of the run? ``domain_accuracies`` are per epoch.

    One that is always right to the end sends back nothing that features could follow: they were not aligned.
    """
    second_half = domain_accuracies[len(domain_accuracies) // 2 :]
    return not second_half or min(second_half) < PERFECT


def did_not_rise(losses: Sequence[float], margin: float) -> bool:
    """Does a loss end no more than ``margin`` (nats) above where its first epoch was, and is it finite throughout?"""
    return bool(np.isfinite(losses).all()) and (not losses or losses[-1] <= losses[0] + margin)
