"""Which backbone: candidates ranked by the accuracy that a probe on their frozen features reaches.

Every candidate sees the same labelled images in the same folds, so that two of them can be compared image by image.
The cross-validated probe decides: a closed-form score follows it at best (weighted Kendall's tau of LogME and H-score
with the accuracy after transfer lies between 0.4 and 0.8 for natural images, and near 0.1 under domain shift). LogME
and H-score are reported beside it as second votes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.core.context import Context
from pipeline.core.device import computing, threads_for
from pipeline.core.errors import DataError
from pipeline.core.seeding import derive, unit
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.evaluation.intervals import Interval, paired_gain, wilson
from pipeline.evaluation.transferability import h_score, logme
from pipeline.features.extraction import extract
from pipeline.features.options import ExtractionOptions
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.cost import multiply_adds
from pipeline.models.network import size_mb
from pipeline.training.classifiers.folds import stratified
from pipeline.training.classifiers.linear_probe import choose_penalty, path
from pipeline.training.ranking.report import RankedBackbone, Ranking
from pipeline.training.task import Labelled

FOLDS = 3

PENALTIES = np.geomspace(1e3, 1e-4, 15).tolist()
"""Of the probe: half-decades where a standardised probe's best penalty lies; a ranking needs no finer ones."""

MOST_BEHIND = 0.03
"""A candidate further behind is no tie, however wide the interval: too few images must not choose a poor backbone."""

RESAMPLES = 2000

Domain = Literal["target", "source"]
Split = Literal["train", "val"]


class RankingImages(NamedTuple):
    """Labelled images to rank on, and their class numbers int64 [n]."""

    manifest: Manifest
    labels: NDArray[np.int64]
    labels_from: Domain
    split: Split


def images_to_rank_on(
    source: Manifest, target: Manifest, label_space: LabelSpace, *, most: int, seed: int, source_is_seen: bool
) -> RankingImages:
    """At most ``most`` labelled images of the target's train split; the source's where the target has too few labels.

    ``source_is_seen``: a candidate was pretrained on the source's train images, whose accuracy then says nothing about
    new ones; its validation images take their place. Test images are never used.

    Raises:
        DataError: neither domain has two images each of two classes.
    """
    offers: tuple[tuple[Domain, Manifest, Split], ...] = (
        ("target", target, "train"),
        ("source", source, "val" if source_is_seen else "train"),
    )
    found: list[str] = []
    for domain, manifest, split in offers:
        labelled = manifest.split(split).labelled
        labelled = labelled.where(labelled.frame["label"].isin(label_space.classes))
        counts = labelled.frame["label"].value_counts()
        if (counts >= 2).sum() >= 2:
            chosen = _sample(labelled, most, seed)
            return RankingImages(chosen, label_space.indices(chosen.frame["label"]), domain, split)
        found.append(f"{len(labelled)} of {len(counts)} class(es) among the {domain}'s {split} images")
    raise DataError(
        expected="labelled images of at least two classes, two of each, to rank the candidate backbones on",
        found="; ".join(found),
        where="backbone.candidates in params.yaml",
        remedy="Label a few images of each class, or name one backbone: backbone.name and backbone.weights.",
    )


def _sample(manifest: Manifest, most: int, seed: int) -> Manifest:
    """Images drawn by their content, ``FOLDS`` of every class first; an image added to the rest changes few of them."""
    if len(manifest) <= most:
        return manifest
    frame = manifest.frame[["id", "label"]].copy()
    frame["draw"] = [unit(seed, "ranking", image_id) for image_id in frame["id"]]
    frame["is_spare"] = frame.groupby("label")["draw"].rank(method="first") > FOLDS
    kept = frame.sort_values(["is_spare", "draw"]).index[:most]
    return manifest.where(manifest.frame.index.to_series().isin(kept))


def rank(
    candidates: Sequence[BackboneWeights], images: RankingImages, options: ExtractionOptions, context: Context
) -> Ranking:
    """Score every candidate and mark one; see :func:`ordered`.

    Features go through the cache; the stage ``features`` finds them there if its options are equal to these.
    """
    folds = stratified_folds(images.labels, context.seed, images.manifest.groups)
    trials = [try_out(number, weights, images, folds, options, context) for number, weights in enumerate(candidates)]
    return ordered(trials, images, context.seed, folds=len(np.unique(folds)))


def ordered(trials: Sequence[Trial], images: RankingImages, seed: int, *, folds: int = FOLDS) -> Ranking:
    """The most accurate first; chosen is the cheapest of those that tie with it.

    A tie is a paired 95 % interval of the difference that holds 0, and a difference of ``MOST_BEHIND`` at most. Cheap
    is what takes few multiply-adds: the choice depends on images, weights and seed, never on the clock.
    """
    trials = sorted(trials, key=lambda trial: (-int(trial.hits.sum()), *trial.price))
    gaps = [_gap(trial, trials[0], seed) for trial in trials]
    chosen = min((trial for trial, gap in zip(trials, gaps, strict=True) if gap.is_tied), key=lambda trial: trial.price)
    rows = [_row(trial, gap, is_chosen=trial is chosen) for trial, gap in zip(trials, gaps, strict=True)]
    return Ranking(
        rows=rows,
        images=len(images.labels),
        classes=len(np.unique(images.labels)),
        labels_from=images.labels_from,
        split=images.split,
        folds=folds,
        reason=_reason(rows, len(images.labels)),
        notes=_notes(rows, images),
    )


def stratified_folds(
    labels: NDArray[np.int64], seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The fold [n] of every image: classes spread evenly, also those with fewer images than folds; and ``groups`` [n]
    never apart, unless a probe would then be fitted to one class."""
    draw, folds = derive(seed, "ranking", "folds"), np.empty(len(labels), dtype=np.int64)
    parts = [] if groups is None else stratified(labels, groups, FOLDS, seed=draw % 2**32)
    if parts and min(len(np.unique(labels[part.fit])) for part in parts) > 1:
        for fold, part in enumerate(parts):
            folds[part.held_out] = fold
        return folds
    rng, dealt = np.random.default_rng(draw), 0
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        folds[rows] = (dealt + np.arange(len(rows))) % FOLDS
        dealt += len(rows)
    return folds


# -- one candidate -----------------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """What was measured of one candidate; ``hits`` bool [n]."""

    candidate: int
    weights: BackboneWeights
    hits: NDArray[np.bool_]
    penalty: float
    logme: float
    h_score: float
    features_s: float
    computed: int
    multiply_adds: int

    @property
    def size_mb(self) -> float:
        return size_mb(self.weights.state)

    @property
    def price(self) -> tuple[int, float]:
        return self.multiply_adds, self.size_mb


def try_out(
    candidate: int,
    weights: BackboneWeights,
    images: RankingImages,
    folds: NDArray[np.int64],
    options: ExtractionOptions,
    context: Context,
) -> Trial:
    """Features, probe and votes of one candidate, which is number ``candidate`` of those named."""
    started = time.monotonic()
    with computing(context.device, context.seed, threads_for(options.threads, weights.preprocessing.size_px)) as device:
        found = extract(weights, [images.manifest], context, device, options)
    seconds = time.monotonic() - started
    data = Labelled(found.tables[0].of(images.manifest), images.labels)
    with threadpool_limits(1):  # sums over several threads round differently
        penalty, hits = cross_validated(data, folds)
        votes = logme(*data), h_score(*data)
    cost = multiply_adds(weights.name, weights.preprocessing.size_px)
    return Trial(candidate, weights, hits, penalty, *votes, seconds, found.computed, cost)


def cross_validated(data: Labelled, folds: NDArray[np.int64]) -> tuple[float, NDArray[np.bool_]]:
    """The best penalty over all folds, and for each image [n] whether the probe of the other folds got it right.

    One penalty out of few is chosen on the images it is judged by: the same small favour for every candidate.
    """
    classes = int(data.labels.max()) + 1
    pairs = [(_rows(data, folds != fold), _rows(data, folds == fold)) for fold in np.unique(folds)]
    penalty, _ = choose_penalty(pairs, PENALTIES, classes)
    hits = np.zeros(len(data), dtype=np.bool_)
    for fold, (fit, held_out) in zip(np.unique(folds), pairs, strict=True):
        head = next(path(fit, [penalty], classes))
        hits[folds == fold] = head.logits(held_out.features).argmax(axis=1) == held_out.labels
    return penalty, hits


def _rows(data: Labelled, rows: NDArray[np.bool_]) -> Labelled:
    return Labelled(data.features[rows], data.labels[rows])


# -- against the most accurate -----------------------------------------------------------------------------------------


class _Gap(NamedTuple):
    """Accuracy of the most accurate candidate less another's, on the same images."""

    behind: float
    interval: Interval

    @property
    def is_tied(self) -> bool:
        return self.interval.low <= 0 and self.behind <= MOST_BEHIND


def _gap(trial: Trial, leader: Trial, seed: int) -> _Gap:
    fixed, broken = int((leader.hits & ~trial.hits).sum()), int((trial.hits & ~leader.hits).sum())
    images, draw = len(trial.hits), derive(seed, "ranking", "paired")
    interval = paired_gain(fixed, broken, images, resamples=RESAMPLES, seed=draw)
    return _Gap((fixed - broken) / images, interval)


def _row(trial: Trial, gap: _Gap, *, is_chosen: bool) -> RankedBackbone:
    hits, weights = int(trial.hits.sum()), trial.weights
    around = wilson(hits, len(trial.hits))
    assert around is not None  # there are images
    return RankedBackbone(
        candidate=trial.candidate,
        name=weights.name,
        weights=weights.origin,
        digest=weights.digest,
        image_size_px=weights.preprocessing.size_px,
        feature_dim=weights.feature_dim,
        accuracy=hits / len(trial.hits),
        accuracy_low=around.low,
        accuracy_high=around.high,
        behind=gap.behind,
        behind_low=gap.interval.low,
        behind_high=gap.interval.high,
        is_tied=gap.is_tied,
        penalty=trial.penalty,
        logme=trial.logme,
        h_score=trial.h_score,
        size_mb=trial.size_mb,
        multiply_adds=trial.multiply_adds,
        features_s=round(trial.features_s, 3),
        images_computed=trial.computed,
        is_chosen=is_chosen,
    )


# -- in words ----------------------------------------------------------------------------------------------------------


def _reason(rows: Sequence[RankedBackbone], images: int) -> str:
    """Why the chosen one; the rows are in the order of accuracy."""
    chosen, leader = next(row for row in rows if row.is_chosen), rows[0]
    tied = sum(row.is_tied for row in rows)
    right = f"{chosen.title} was chosen: its probe is right on {chosen.accuracy:.1%} of {images:,} images"
    if len(rows) == 1:
        return f"{right}; it is the only candidate."
    if chosen is not leader:
        return (
            f"{right}, {_points(chosen)} behind {leader.title}, which is a tie; of the {tied} that tie it costs least, "
            f"{_giga(chosen)} against {_giga(leader)} billion multiply-adds per image."
        )
    if tied > 1:
        return f"{right}; {tied - 1} more cannot be told from it, and of these {tied} it costs least."
    is_certain = rows[1].behind_low > 0
    aside = "" if is_certain else f"; over {100 * MOST_BEHIND:g} points are no tie, though so few images leave doubt"
    return f"{right}; the next, {rows[1].title}, is {_points(rows[1])} behind{aside}."


def _points(row: RankedBackbone) -> str:
    interval = f"{100 * row.behind_low:.1f} to {100 * row.behind_high:.1f}".replace("-", "−")
    return f"{100 * row.behind:.1f} points (95 % interval {interval})"


def _giga(row: RankedBackbone) -> str:
    return f"{row.multiply_adds / 1e9:.2g}"


def _notes(rows: Sequence[RankedBackbone], images: RankingImages) -> list[str]:
    notes = [_votes(rows)] if len(rows) > 1 else []
    if images.labels_from == "source":
        notes.append(
            f"The target has too few labels, so the source's {images.split} images were ranked on: the accuracies are "
            "the source's, and another domain may order the candidates otherwise."
        )
    return notes


def _votes(rows: Sequence[RankedBackbone]) -> str:
    """What LogME and H-score would have taken."""
    chosen = next(row for row in rows if row.is_chosen)
    by_logme, by_h_score = max(rows, key=lambda row: row.logme), max(rows, key=lambda row: row.h_score)
    if by_logme is by_h_score:
        return f"LogME and H-score put {'it' if by_logme is chosen else by_logme.title} first."
    return f"LogME puts {by_logme.title} first, H-score {by_h_score.title}."
