"""Judging a network without one target label.

MixVal (Hu et al., "Mixed Samples as Probing for Unsupervised Model Selection in Domain Adaptation", NeurIPS 2023), in
its variant between classes: two target images that the network tells apart are blended, 55 to 45; a network whose
borders run between the target's clusters still names the stronger one. Beside it information maximisation (sure on
each image, various over all) and the balance of classes; the three are combined by the sum of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.transforms import centre_crop, normalise
from pipeline.models.network import Network
from pipeline.training.objectives import Images

Floats = NDArray[np.floating]

MIX = 0.55
"""Share of the stronger image in a blend."""

BATCH = 128

BLENDS = 2000
"""Pairs per network at most: their share then has a standard error of about one point. On a CPU and with large images
that is a minute or two per candidate, beside which fine-tuning is long and a head on features is not; it comes on top
of the budget, which counts fits."""


class Scores(NamedTuple):
    """What is known of a network on unlabelled target images; higher is better in all."""

    mixval: float
    """Share of all pairs that it names differently and whose blend it names after the stronger image. Of all pairs, and
    not of those told apart as in the paper: a network that calls nearly everything alike would else be judged by the
    few it is surest of."""
    information: float
    """Entropy of the mean answer less the mean entropy of the answers, nats."""
    balance: float
    """1 where each class is answered as often as expected, 0 where none of the expected ones is."""
    kept: NDArray[np.bool_]
    """[pairs], whether it names the two images differently and their blend after the stronger one."""
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
    """[pairs] each, as :func:`pairs` has them."""


def judge(
    network: Network, images: Images, probabilities: Floats, prior: Floats, *, seed: int, device: torch.device
) -> Scores:
    """Score ``network`` on ``images``, whose ``probabilities`` [n, classes] it has already given.

    Pairs depend on ``seed`` and the images alone, so that two networks can be compared pair by pair.
    """
    predicted = probabilities.argmax(axis=1)
    stronger, weaker = pairs(len(images), BLENDS, seed)
    told_apart = predicted[stronger] != predicted[weaker]
    kept = np.zeros(len(stronger), dtype=bool)
    named = blends_named(network, images, stronger[told_apart], weaker[told_apart], device)
    kept[told_apart] = named == predicted[stronger[told_apart]]
    return Scores(
        mixval=float(kept.mean()) if len(kept) else 0.0,
        information=information(probabilities),
        balance=balance(probabilities, prior),
        kept=kept,
        pairs=(stronger, weaker),
    )


def information(probabilities: Floats) -> float:
    """Mutual information between image and answer: H(mean p) − mean H(p), nats (Bridle et al., 1992)."""
    return entropy(probabilities.mean(axis=0)) - float(np.mean([entropy(row) for row in probabilities]))


def entropy(probabilities: Floats) -> float:
    """Σ −p log p, nats."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def balance(probabilities: Floats, prior: Floats) -> float:
    """1 less half the absolute difference between the shares of answers and ``prior``: 1 where they are equal."""
    shares = np.bincount(probabilities.argmax(axis=1), minlength=len(prior)) / max(1, len(probabilities))
    return float(1 - 0.5 * np.abs(shares - prior).sum())


def pairs(images: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the stronger and of the weaker image of each pair, int64 [at most count]; no image with itself.

    The images stand in a ring, and each is blended with the next; where they are few, with the one after that, too, and
    so on, until there are about ``count`` pairs, or each two are met once.
    """
    order = np.random.default_rng(seed).permutation(images)
    rings = min(max(1, count // max(1, images)), max(1, (images - 1) // 2)) if images > 1 else 0
    behind = [np.roll(order, distance) for distance in range(1, rings + 1)]
    return np.tile(order, rings)[:count], np.concatenate([order[:0], *behind])[:count]


@torch.no_grad()
def blends_named(
    network: Network, images: Images, stronger: np.ndarray, weaker: np.ndarray, device: torch.device
) -> NDArray[np.int64]:
    """The class that each blend is named as, [pairs]."""
    network.to(device).eval()
    preprocessing, bank = images.bank.preprocessing, images.bank
    named = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(stronger), BATCH):
        rows, others = stronger[start : start + BATCH], weaker[start : start + BATCH]
        mixed = MIX * bank.fetch(rows, device).float() + (1 - MIX) * bank.fetch(others, device).float()
        view = normalise(centre_crop(mixed, preprocessing.size_px), preprocessing)
        named.append(network(view).argmax(dim=1).cpu().numpy())
    return np.concatenate(named)


def rank_sums(*columns: Sequence[float]) -> Floats:
    """Sum of the ranks in each column of figures, higher being better; the lowest sum is the best, ties share ranks."""
    from scipy.stats import rankdata

    return np.sum([rankdata([-value for value in column], method="average") for column in columns], axis=0)
