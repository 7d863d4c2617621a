"""From answers to the numbers of the report."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation import intervals, metrics
from pipeline.evaluation.report import ClassScore, ReliabilityBin, SliceGap, SliceScore

MAX_SLICES = 50
"""A column with more values than this is no slice but a measurement or a name."""


class Answers(NamedTuple):
    """What a model said on labelled images."""

    labels: NDArray[np.int64]
    """True class numbers, [images]."""
    probabilities: NDArray[np.floating]
    """[images, classes]"""

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.probabilities.argmax(1)

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels

    @property
    def confusion(self) -> NDArray[np.int64]:
        return metrics.confusion_matrix(self.labels, self.predicted, self.probabilities.shape[1])

    @property
    def reliability(self) -> metrics.Reliability:
        return metrics.reliability(self.correct, self.probabilities.max(1))


def overall(answers: Answers, *, resamples: int, seed: int) -> dict[str, Any]:
    """The flat figures of :class:`~pipeline.evaluation.report.Metrics`, with their intervals.

    Of shares of images, and of their mean over classes, by formula: resampling gives no width where all answers are
    right, as it still does for F1.
    """
    confusion, images = answers.confusion, answers.confusion.sum(1)
    around = intervals.wilson(int(answers.correct.sum()), len(answers.labels))
    assert around is not None, "there is at least one image"
    bounds = {
        "accuracy": around,
        "balanced_accuracy": intervals.mean_of_shares(np.diagonal(confusion)[images > 0], images[images > 0]),
        **intervals.of_confusion(confusion, {"f1_macro": metrics.f1_macro}, resamples=resamples, seed=seed),
    }
    figures: dict[str, Any] = {
        "accuracy": float(metrics.accuracy(confusion)),
        "balanced_accuracy": float(metrics.balanced_accuracy(confusion)),
        "f1_macro": float(metrics.f1_macro(confusion)),
    }
    for name, (low, high) in bounds.items():
        figures |= {f"{name}_low": low, f"{name}_high": high}
    for name, scores in (("precision", metrics.precisions(confusion)), ("recall", metrics.recalls(confusion))):
        figures[f"{name}_macro"] = float(metrics.macro(scores, confusion))
        figures[f"{name}_weighted"] = float(metrics.weighted(scores, confusion))
    figures["f1_weighted"] = float(metrics.weighted(metrics.f1_scores(confusion), confusion))
    figures["worst_class_recall"] = float(np.nanmin(metrics.recalls(confusion)))
    if len(confusion) >= metrics.TOP_FROM_CLASSES:
        figures["top5_accuracy"] = metrics.top_accuracy(answers.labels, answers.probabilities)
    return figures | calibration(answers)


def calibration(answers: Answers) -> dict[str, float]:
    """Expected calibration error and Brier score."""
    return {"ece": answers.reliability.ece, "brier": metrics.brier(answers.labels, answers.probabilities)}


def per_class(answers: Answers, classes: list[str], champion: Answers | None = None) -> list[ClassScore]:
    """One row per class, in the model's order."""
    confusion = answers.confusion
    precisions, f1_scores = metrics.precisions(confusion), metrics.f1_scores(confusion)
    others = metrics.recalls(champion.confusion) if champion else np.full(len(classes), np.nan)
    rows = []
    for number, label in enumerate(classes):
        images, hits = int(confusion[number].sum()), int(confusion[number, number])
        bounds = intervals.wilson(hits, images)
        rows.append(
            ClassScore(
                label=label,
                images=images,
                precision=_known(precisions[number]),
                recall=hits / images if images else None,
                recall_low=bounds.low if bounds else None,
                recall_high=bounds.high if bounds else None,
                f1=_known(f1_scores[number]),
                champion_recall=_known(others[number]),
            )
        )
    return rows


def per_slice(
    columns: pd.DataFrame, correct: NDArray[np.bool_], champion: NDArray[np.bool_] | None = None
) -> list[SliceScore]:
    """Accuracy for each value of each column; ``columns`` has one row per image, nulls are passed over."""
    return [
        _slice(str(column), str(value), correct[rows], None if champion is None else champion[rows])
        for column in columns
        if columns[column].nunique() <= MAX_SLICES
        for value, rows in sorted(columns.groupby(columns[column]).indices.items(), key=lambda entry: str(entry[0]))
    ]


def _slice(
    column: str, value: str, correct: NDArray[np.bool_], champion: NDArray[np.bool_] | None = None
) -> SliceScore:
    bounds = intervals.wilson(int(correct.sum()), len(correct))
    assert bounds is not None, "a slice has at least one image"
    return SliceScore(
        column=column,
        value=value,
        images=len(correct),
        accuracy=float(correct.mean()),
        accuracy_low=bounds.low,
        accuracy_high=bounds.high,
        champion_accuracy=None if champion is None else float(champion.mean()),
    )


def gaps(scores: list[SliceScore]) -> list[SliceGap]:
    """For each column with at least two values, the gap that is surest; columns in the order in which they come."""
    columns = {score.column: [other for other in scores if other.column == score.column] for score in scores}
    return [_gap(column, found) for column, found in columns.items() if len(found) > 1]


def _gap(column: str, scores: list[SliceScore]) -> SliceGap:
    pairs = len(scores) * (len(scores) - 1) // 2
    counts = {score.value: (round(score.accuracy * score.images), score.images) for score in scores}
    found = [
        SliceGap(
            column=column,
            slices=len(scores),
            best=best.value,
            worst=worst.value,
            gap=best.accuracy - worst.accuracy,
            gap_low=bounds.low,
            gap_high=bounds.high,
        )
        for best, worst in permutations(scores, 2)
        if best.accuracy >= worst.accuracy
        for bounds in [intervals.difference(counts[best.value], counts[worst.value], pairs)]
    ]
    return max(found, key=lambda gap: (gap.gap_low, gap.gap))


def reliability_bins(answers: Answers) -> list[ReliabilityBin]:
    """The reliability diagram, bin by bin."""
    bins = answers.reliability
    count = len(bins.images)
    return [
        ReliabilityBin(
            low=number / count,
            high=(number + 1) / count,
            images=int(bins.images[number]),
            confidence=_known(bins.confidence[number]),
            accuracy=_known(bins.accuracy[number]),
        )
        for number in range(count)
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
