"""Prior shift: do the classes occur as often in the target as in the source?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import Document
from pipeline.core.seeding import derive
from pipeline.evaluation.intervals import LEVEL, wilson

Labels = Sequence[str | None]
"""One per image; None is unlabelled."""

PERMUTATIONS = 2000


class ClassShare(Document):
    """One class among the labelled images of both domains; shares are in [0, 1]."""

    label: str
    source_images: int
    target_images: int
    source_share: float
    target_share: float
    low: float
    high: float
    """95 % Wilson interval of the target's share."""


class PriorShift(Document):
    """``classes`` is empty, and the sentence says so, where one of the domains has no labels."""

    classes: list[ClassShare] = []
    total_variation: float | None = None
    """½ Σ|p_s − p_t|: the share of images that would have to change their class to make both alike, in [0, 1]."""
    null_high: float | None = None
    """What 95 % of shuffles of the same labels between the domains stay below."""
    sentence: str


def prior_shift(source: Labels, target: Labels, *, seed: int) -> PriorShift:
    """Shares of all classes that occur in either, in natural order, and whether they differ by more than chance."""
    from pipeline.data.labels import natural_key

    counted = [Counter(label for label in labels if label is not None) for labels in (source, target)]
    if not all(counted):
        return PriorShift(sentence="How often classes occur cannot be compared: one of the domains has no labels.")
    names = sorted(counted[0] | counted[1], key=natural_key)
    counts = np.array([[count[name] for name in names] for count in counted])
    shares = counts / counts.sum(1, keepdims=True)
    variation, limit = float(np.abs(shares[1] - shares[0]).sum() / 2), _by_chance(counts, seed)
    return PriorShift(
        classes=[_share(name, counts[:, number], counts.sum(1)) for number, name in enumerate(names)],
        total_variation=variation,
        null_high=limit,
        sentence=_sentence(names, shares, variation, limit),
    )


def _share(label: str, images: NDArray[np.int64], totals: NDArray[np.int64]) -> ClassShare:
    """``images`` of this class and ``totals`` over all, [2] each: source, target."""
    interval = wilson(int(images[1]), int(totals[1]))
    assert interval is not None
    return ClassShare(
        label=label,
        source_images=int(images[0]),
        target_images=int(images[1]),
        source_share=float(images[0] / totals[0]),
        target_share=float(images[1] / totals[1]),
        low=interval.low,
        high=interval.high,
    )


def _by_chance(counts: NDArray[np.int64], seed: int) -> float:
    """The total variation that labels dealt out to the domains at random stay below, in 95 % of cases."""
    random = np.random.default_rng(derive(seed, "prior shift"))
    labels, totals = counts.sum(0), counts.sum(1)
    target = random.multivariate_hypergeometric(labels, totals[1], size=PERMUTATIONS, method="marginals")
    differences = np.abs(target / totals[1] - (labels - target) / totals[0])
    return float(np.quantile(differences.sum(1) / 2, LEVEL))


def _sentence(names: list[str], shares: NDArray[np.float64], variation: float, limit: float) -> str:
    compared = f"(total variation {variation:.3f}; chance alone stays below {limit:.3f})"
    if variation <= limit:
        return (
            f"Among the labelled images the classes occur as often in both, as far as the labels can tell {compared}."
        )
    worst = int(np.abs(shares[1] - shares[0]).argmax())
    return (
        f"Among the labelled images the classes do not occur as often in both {compared}; most of all "
        f"'{names[worst]}': {shares[0, worst]:.1%} of the source, {shares[1, worst]:.1%} of the target."
    )
