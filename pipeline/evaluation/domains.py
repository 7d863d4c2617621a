"""How far one domain is from another, as a frozen backbone sees them.

Works on arrays of features alone, so that the training report, ``auto`` and drift monitoring ask the same question.

Each distance is measured many times, on draws: half of the source and half of the target (1,000 images at most of
each). Draws are without replacement, since an image that is drawn twice would sit on both sides of a held-out split and
would count as a perfect match of a kernel. The spread over halves is that of the full sample (McCarthy 1969; Politis &
Romano 1994). So for the MMD, which is unbiased, and for the proxy A-distance of a classifier fitted on a quarter of
each domain, the 2.5 and 97.5 percentiles over the draws are a 95 % interval. CORAL and Fréchet are biased upwards by
small samples, and so is every draw of theirs: they are measured on as many images of either domain as the smaller half
has, their range over the draws is no interval for a true value, and they mean something beside their null level only.

The null level is the same distance between two parts of one domain, source and target in turn, each part as large as
the smaller half.

Features are first turned into their leading 128 principal directions, both domains together, and divided by one number
so that a direction's variance within a domain is 1 on average. That makes values comparable between backbones, bounds
the cost, and keeps the covariances of few images from being mostly noise; it changes nothing under rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DataError
from pipeline.core.files import Document
from pipeline.core.progress import track
from pipeline.core.seeding import derive
from pipeline.evaluation import distances
from pipeline.evaluation.domain_map import DomainMap, domain_map
from pipeline.evaluation.intervals import LEVEL
from pipeline.evaluation.prior_shift import PriorShift, prior_shift

Features = NDArray[np.floating]
"""[n, feature_dim]"""

Nearness = Literal["near", "middle", "far"]

NEAR, FAR = 0.04, 0.2
"""Limits of the MMD for :data:`Nearness`, see :func:`nearness_of`."""

MIN_IMAGES = 20
"""In each domain; with fewer a draw holds too few images for a covariance or a classifier."""

DIRECTIONS = 128
MAX_IMAGES = 2000
DRAWS = 100
MAP_IMAGES = 500

PAD, CORAL, MMD, FRECHET = "proxy A-distance", "CORAL", "MMD", "Fréchet"

SATURATED = 1.8
"""From here on the proxy A-distance is as good as at its end: a classifier is wrong on one image in twenty or fewer."""


class Distance(Document):
    """One distance: mean and range (2.5 to 97.5 percent) over the draws, and the same between parts of one domain."""

    name: str
    is_biased: bool = False
    """If so, ``low`` and ``high`` are a range over half samples, to be compared with the null level alone; if not, they
    are a 95 % interval."""
    value: float
    low: float
    high: float
    null: float
    null_low: float
    null_high: float

    @property
    def is_within_null(self) -> bool:
        """Could two halves of one domain be this far apart?"""
        return self.low <= self.null_high


class DomainReport(Document):
    """What lies between two domains; ``distances`` is empty and ``nearness`` None where they could not be compared."""

    source: str = "source"
    target: str = "target"
    """What the two are called."""
    source_images: int = 0
    target_images: int = 0
    source_per_draw: int = 0
    target_per_draw: int = 0
    """Images taken from each domain for one measurement; CORAL, Fréchet and all null levels take the smaller number."""
    variance_kept: float | None = None
    """Share of the features' variance in the directions that were looked at, in [0, 1]."""
    distances: list[Distance] = []
    nearness: Nearness | None = None
    prior_shift: PriorShift | None = None
    """None where neither domain came with labels."""
    sentences: list[str] = []
    map: DomainMap | None = None

    def distance(self, name: str) -> Distance | None:
        return next((row for row in self.distances if row.name == name), None)


def nearness_of(mmd: Distance) -> Nearness:
    """``near`` below a squared MMD of 0.04 or within its null level, ``far`` above 0.2, ``middle`` between.

    The MMD decides because it alone neither saturates nor depends on the number of images: its null level is 0 for any.
    The limits are measured, on 84 ordered pairs of domains: the four of office_caltech10 and five of digits (MNIST
    train and test, USPS, MNIST-M, UCI), with features of mobilenet_v2 and resnet18 (ImageNet) and, for digits, of
    small_cnn (MNIST). The loss is the accuracy of a linear probe of the target's own less that of the source's probe,
    in points:

    | | pairs | loss, mean | range | for example |
    |---|---|---|---|---|
    | near | 22 | 2 | −2 to 8 | MNIST train and test 0.000; amazon and webcam, mobilenet_v2 0.03 |
    | middle | 22 | 18 | 3 to 38 | amazon and webcam, resnet18 0.05; MNIST and USPS 0.08 to 0.15 |
    | far | 40 | 48 | 1 to 82 | MNIST and MNIST-M 0.24 to 0.38; MNIST and UCI 0.37 to 0.39 |

    It grades a shift and does not forecast the loss: the 1 is a probe of MNIST-M on MNIST. Over all pairs the rank
    correlation with the loss is 0.82 (proxy A-distance 0.84, Fréchet 0.84, CORAL 0.63); among the small shifts of
    office_caltech10, where the choice matters, 0.72 (0.58, 0.24, 0.40).
    """
    if mmd.value < NEAR or mmd.is_within_null:
        return "near"
    return "far" if mmd.value > FAR else "middle"


def compare(
    source: Features,
    target: Features,
    *,
    seed: int,
    source_labels: Sequence[str | None] = (),
    target_labels: Sequence[str | None] = (),
    names: tuple[str, str] = ("source", "target"),
    max_images: int = MAX_IMAGES,
    draws: int = DRAWS,
    map_images: int = MAP_IMAGES,
) -> DomainReport:
    """Measure the distances between two domains, and draw the map of ``map_images`` of each (0: no map).

    No image may be in both. Labels, one per row or none at all, serve the class shares and the map; without labels on
    either side nothing is said of classes. Equal arguments give equal reports, whatever the number of CPU threads.

    Raises:
        DataError: a feature is not finite.
        ValueError: the two have different numbers of features.
    """
    from threadpoolctl import threadpool_limits

    _check(source, target, names)
    facts = {"source": names[0], "target": names[1], "source_images": len(source), "target_images": len(target)}
    prior = prior_shift(source_labels, target_labels, seed=seed) if source_labels or target_labels else None
    if min(len(source), len(target)) < MIN_IMAGES:
        return DomainReport(**facts, prior_shift=prior, sentences=[_too_few(source, target, names)])
    with threadpool_limits(1):  # sums in parallel round differently with the number of threads
        pair = _pair(source, target, max_images, seed)
        rows = _measure(pair, draws, seed)
        drawn = _map(pair, source_labels, target_labels, map_images, seed) if map_images else None
    return DomainReport(
        **facts,
        source_per_draw=len(pair.source) // 2,
        target_per_draw=len(pair.target) // 2,
        variance_kept=pair.variance_kept,
        distances=rows,
        nearness=nearness_of(next(row for row in rows if row.name == MMD)),
        prior_shift=prior,
        sentences=_sentences(rows, names),
        map=drawn,
    )


def _check(source: Features, target: Features, names: tuple[str, str]) -> None:
    if len(source) and len(target) and source.shape[1] != target.shape[1]:
        raise ValueError(f"{source.shape[1]} features of the {names[0]}, {target.shape[1]} of the {names[1]}")
    for features, name in zip((source, target), names, strict=True):
        bad = int((~np.isfinite(features).all(1)).sum()) if len(features) else 0
        if bad:
            raise DataError(
                expected="finite features",
                found=f"infinities or NaN in those of {bad:,} of {len(features):,} images of the {name}",
                where="the backbone's answers (stage features)",
                remedy="Use other weights (backbone.weights), or features.dtype: float32 if it is float16.",
            )


# -- the features as they are measured ---------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """Principal components of a sample of both domains, [n, d] each, and which rows of the domains they are."""

    source: distances.Sample
    target: distances.Sample
    source_rows: NDArray[np.int64]
    target_rows: NDArray[np.int64]
    variance_kept: float

    @property
    def smaller_half(self) -> int:
        return min(len(self.source), len(self.target)) // 2


def _pair(source: Features, target: Features, max_images: int, seed: int) -> _Pair:
    chosen = [
        np.sort(np.random.default_rng(derive(seed, "domains", side)).permutation(len(features))[:max_images])
        for side, features in (("source", source), ("target", target))
    ]
    sides = [np.asarray(features[rows], np.float64) for features, rows in zip((source, target), chosen, strict=True)]
    centre = (sides[0].mean(0) + sides[1].mean(0)) / 2
    directions, kept = _principal_directions(np.concatenate(sides) - centre)
    turned = [(side - centre) @ directions for side in sides]
    variance = np.mean([side.var(0).mean() for side in turned])
    unit = np.sqrt(variance) if variance > 0 else 1.0
    return _Pair(turned[0] / unit, turned[1] / unit, chosen[0], chosen[1], kept)


def _principal_directions(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The leading directions, [feature_dim, d], and the share of the variance in them."""
    from scipy.linalg import eigh

    scatter = rows.T @ rows
    dimensions = len(scatter)
    leading = [max(0, dimensions - DIRECTIONS), dimensions - 1]
    values, vectors = eigh(scatter, subset_by_index=leading)
    total = float(np.trace(scatter))
    kept = min(1.0, float(values.sum()) / total) if total > 0 else 1.0
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])  # else free, and so is the map
    return vectors * signs, kept


# -- measuring ---------------------------------------------------------------------------------------------------------

_SINGLE = {PAD: distances.proxy_a_distance, CORAL: distances.coral, FRECHET: distances.frechet}

_BIASED = (CORAL, FRECHET)
"""Their bias depends on the number of images, so that values and null level take equally many."""


class _Draw(NamedTuple):
    """Rows of the two samples, counted over source and target together."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def at_most(self, images: int) -> _Draw:
        """Of each side; a draw is in random order, so the first ones are a draw, too."""
        return _Draw(self.first[:images], self.second[:images])


def _measure(pair: _Pair, draws: int, seed: int) -> list[Distance]:
    rows = np.concatenate([pair.source, pair.target])
    between, within = _draws(pair, draws, seed)
    every = between + within
    singles: dict[str, list[float]] = {name: [] for name in _SINGLE}
    for draw in track(every, what="distances", unit="draws", total=len(every)):
        for name, distance in _SINGLE.items():
            taken = draw.at_most(pair.smaller_half) if name in _BIASED else draw
            singles[name].append(distance(rows[taken.first], rows[taken.second]))
    kernels = distances.kernel(rows)
    sides = [_membership([draw[side] for draw in every], len(rows)) for side in (0, 1)]
    measured = singles | {MMD: list(distances.mmd_of_draws(kernels, *sides))}
    return [_distance(name, measured[name][:draws], measured[name][draws:]) for name in (PAD, CORAL, MMD, FRECHET)]


def _draws(pair: _Pair, draws: int, seed: int) -> tuple[list[_Draw], list[_Draw]]:
    """Draws between halves of the domains, and as many within one, source and target in turn."""
    random = np.random.default_rng(derive(seed, "domains", "draws"))
    size, offset = pair.smaller_half, len(pair.source)
    between, within = [], []
    for number in range(draws):
        source = random.permutation(len(pair.source))
        target = offset + random.permutation(len(pair.target))
        between.append(_Draw(source[: len(source) // 2], target[: len(target) // 2]))
        halved = (source, target)[number % 2]
        within.append(_Draw(halved[:size], halved[size : 2 * size]))
    return between, within


def _membership(samples: Sequence[NDArray[np.int64]], rows: int) -> NDArray[np.float64]:
    """[rows, samples]: 1 where a row belongs to a sample."""
    belongs = np.zeros((rows, len(samples)))
    for number, sample in enumerate(samples):
        belongs[sample, number] = 1
    return belongs


def _distance(name: str, between: list[float], within: list[float]) -> Distance:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(between, [tail, 1 - tail])
    null_low, null_high = np.quantile(within, [tail, 1 - tail])
    figures = {
        "value": np.mean(between),
        "low": low,
        "high": high,
        "null": np.mean(within),
        "null_low": null_low,
        "null_high": null_high,
    }
    rounded = {key: float(f"{figure:.6g}") for key, figure in figures.items()}
    return Distance(name=name, is_biased=name in _BIASED, **rounded)


def _map(
    pair: _Pair,
    source_labels: Sequence[str | None],
    target_labels: Sequence[str | None],
    most: int,
    seed: int,
) -> DomainMap | None:
    """None where all features are equal: there is nothing to spread out."""
    if not np.ptp(np.concatenate([pair.source, pair.target]), axis=0).any():
        return None
    random = np.random.default_rng(derive(seed, "domains", "map"))
    source, target = (np.sort(random.permutation(len(side))[:most]) for side in (pair.source, pair.target))
    return domain_map(
        pair.source[source],
        pair.target[target],
        [source_labels[row] if source_labels else None for row in pair.source_rows[source]],
        [target_labels[row] if target_labels else None for row in pair.target_rows[target]],
        seed=derive(seed, "domains", "t-SNE"),
    )


# -- in words ----------------------------------------------------------------------------------------------------------

IN_WORDS = {"near": "is near", "middle": "is at a middle distance from", "far": "is far from"}


def _too_few(source: Features, target: Features, names: tuple[str, str]) -> str:
    counts = " and ".join(f"{len(one):,} of the {name}" for one, name in zip((source, target), names, strict=True))
    return f"There are too few images to measure distances ({counts}; {MIN_IMAGES} of each are needed)."


def _sentences(rows: list[Distance], names: tuple[str, str]) -> list[str]:
    by_name = {row.name: row for row in rows}
    return [_verdict(by_name[MMD], names), _told_apart(by_name[PAD], names), *_unremarkable(rows)]


def _verdict(mmd: Distance, names: tuple[str, str]) -> str:
    source, target = names
    measured = f"MMD {mmd.value:.3f} ({mmd.low:.3f} to {mmd.high:.3f})".replace("-", "−")
    if mmd.is_within_null:
        return f"The {target} cannot be told from the {source}: {measured}, as between two halves of one domain."
    words = IN_WORDS[nearness_of(mmd)]
    return f"The {target} {words} the {source}: {measured}; near ends at {NEAR}, far begins at {FAR}."


def _told_apart(pad: Distance, names: tuple[str, str]) -> str:
    right, by_chance = (_accuracy(value) for value in (pad.value, pad.null))
    sentence = (
        f"A linear classifier tells an image of the {names[0]} from one of the {names[1]} in {right:.0%} of cases, "
        f"two halves of one domain in {by_chance:.0%}"
    )
    if pad.value < SATURATED:
        return f"{sentence}."
    return f"{sentence}; so near its end the proxy A-distance says that they differ, not how much."


def _accuracy(pad: float) -> float:
    """1 − ε of PAD = 2(1 − 2ε)."""
    return (2 + pad) / 4


def _unremarkable(rows: list[Distance]) -> list[str]:
    names = [row.name for row in rows if row.is_within_null and row.name != MMD]
    if not names:
        return []
    return [f"No larger than between two halves of one domain: {', '.join(names)}."]
