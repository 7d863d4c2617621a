"""Judging a network without one target label.

MixVal (Hu et al., "Mixed Samples as Probing for Unsupervised Model Selection in Domain Adaptation", NeurIPS 2023), in
its variant between classes: two target images that the network tells apart are blended, 55 to 45; a network whose
borders run between the target's clusters still names the stronger one. Beside it information maximisation (sure on
each image, various over all) and the balance of classes; the three are combined by the sum of ranks.
"""

from __future__ import annotations

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

MIXED_IMAGES = 512
"""Blends per network; their share has a standard error of some two points."""


class Scores(NamedTuple):
    """What is known of a network on unlabelled target images; higher is better in all."""

    mixval: float
    information: float
    """Entropy of the mean answer less the mean entropy of the answers, nats."""
    balance: float
    """1 where each class is answered as often as expected, 0 where none of the expected ones is."""
    kept: int
    """Blends that were still named after the stronger image."""
    blends: int


def judge(
    network: Network, images: Images, probabilities: Floats, prior: Floats, *, seed: int, device: torch.device
) -> Scores:
    """Score ``network`` on ``images``, whose ``probabilities`` [n, classes] it has already given."""
    kept = mixed_and_kept(network, images, probabilities.argmax(axis=1), seed=seed, device=device)
    return Scores(
        mixval=float(kept.mean()) if len(kept) else 0.0,
        information=information(probabilities),
        balance=balance(probabilities, prior),
        kept=int(kept.sum()),
        blends=len(kept),
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


def partners(predicted: NDArray[np.integer], seed: int, count: int = MIXED_IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Rows of images and of partners that are named differently, both int64 [at most count].

    The order is drawn once for equal seeds, so that networks are tried on the same images as far as they agree.
    """
    order = np.random.default_rng(seed).permutation(len(predicted))
    first = order[:count]
    turned = np.roll(order, -count // 2 - 1)
    found = [_first_other(predicted, row, turned, start) for start, row in enumerate(first)]
    has_partner = np.array([partner >= 0 for partner in found], dtype=bool)
    return first[has_partner], np.array(found, dtype=np.int64)[has_partner]


def _first_other(predicted: NDArray[np.integer], row: int, order: np.ndarray, start: int) -> int:
    """The first row in ``order``, from ``start`` on, that is named otherwise than ``row``; -1 if there is none."""
    ahead = np.concatenate([order[start:], order[:start]])
    other = predicted[ahead] != predicted[row]
    return int(ahead[other.argmax()]) if other.any() else -1


@torch.no_grad()
def mixed_and_kept(
    network: Network, images: Images, predicted: NDArray[np.integer], *, seed: int, device: torch.device
) -> NDArray[np.bool_]:
    """Which blends of two differently named images are still named after the stronger one, [blends]."""
    stronger, weaker = partners(predicted, seed)
    network.to(device).eval()
    kept = []
    for start in range(0, len(stronger), 128):
        rows, others = stronger[start : start + 128], weaker[start : start + 128]
        mixed = MIX * images.bank.fetch(rows).float() + (1 - MIX) * images.bank.fetch(others).float()
        preprocessing = images.bank.preprocessing
        view = normalise(centre_crop(mixed.to(device), preprocessing.size_px), preprocessing)
        kept.append(network(view).argmax(dim=1).cpu().numpy() == predicted[rows])
    return np.concatenate(kept) if kept else np.zeros(0, dtype=bool)


def rank_sums(scores: list[Scores]) -> Floats:
    """Sum of the ranks by MixVal, information and balance, [len(scores)]; the lowest is the best, ties share ranks."""
    from scipy.stats import rankdata

    columns = [[getattr(score, name) for score in scores] for name in ("mixval", "information", "balance")]
    return np.sum([rankdata([-value for value in column], method="average") for column in columns], axis=0)
