"""What was measured on the test images, from ``metrics.json``, ``latency.json`` and ``predictions.parquet``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd

from pipeline.catalog import CATALOG
from pipeline.data.manifest import Manifest
from pipeline.reporting import charts, thumbnails
from pipeline.reporting.reading import Json, estimate, finite
from pipeline.reporting.view import (
    ClassRow,
    Comparison,
    Confusion,
    Estimate,
    Mistake,
    Mistakes,
    NumberRow,
    Numbers,
    Reliability,
    SliceRow,
    Style,
)

WORST = 24
"""Mistakes shown with their image."""

MOST_PAIRS = 8
"""Confused pairs of classes listed beside the matrix."""


def comparison(metrics: Json | None) -> Comparison | None:
    entry = _against_whom(metrics, "champion")
    if entry is None:
        return None
    gain = cast(Estimate, estimate(entry, "gain"))
    return Comparison(entry["name"], entry["accuracy"], gain, entry["fixed"], entry["broken"], entry.get("problem"))


def _against_whom(metrics: Json | None, whom: str) -> Json | None:
    entries = metrics.get("comparisons", []) if metrics else []
    return next((entry for entry in entries if entry["against"] == whom), None)


# key in metrics.json (the champion's has the prefix champion_), name for people, how it is printed, higher is better
_SCORES: tuple[tuple[str, str, Style, bool], ...] = (
    ("accuracy", "Accuracy", "percent", True),
    ("balanced_accuracy", "Balanced accuracy", "percent", True),
    ("f1_macro", "F1, macro", "number", True),
    ("f1_weighted", "F1, weighted", "number", True),
    ("worst_class_recall", "Recall of the worst class", "percent", True),
    ("top5_accuracy", "Top-5 accuracy", "percent", True),
    ("ece", "Calibration error (ECE)", "number", False),
    ("brier", "Brier score", "number", False),
    ("source_accuracy", "Accuracy kept on the source", "percent", True),
)


def numbers(metrics: Json | None, latency: Json | None, parity: Json | None = None) -> Numbers | None:
    if metrics is None:
        return None
    rows = [_row(metrics, *score) for score in _SCORES]
    if latency is not None:
        rows.append(_row(latency, "p50_ms", "Latency, median", "ms", False))
        rows.append(_row(latency, "p95_ms", "Latency, 95th percentile", "ms", False))
    champion_size = finite(metrics.get("champion_size_mb"))
    rows.append(NumberRow("Size", "mb", False, estimate(metrics, "model_size_mb"), champion_size, None))
    champion = _against_whom(metrics, "champion")
    baseline = _against_whom(metrics, "baseline")
    return Numbers(
        rows=[row for row in rows if row.challenger or row.champion],
        champion=champion["name"] if champion else None,
        baseline=baseline["name"] if baseline else None,
        notes=[
            *(_compared(entry) for entry in (champion, baseline) if entry),
            *_precision(parity),
            *map(_sentence, metrics.get("notes", [])),
        ],
    )


def _row(report: Json, key: str, name: str, style: Style, higher_is_better: bool) -> NumberRow:
    return NumberRow(
        name,
        style,
        higher_is_better,
        challenger=estimate(report, key),
        champion=finite(report.get(f"champion_{key}")),
        baseline=finite(report.get(f"baseline_{key}")),
    )


def _compared(entry: Json) -> str:
    """``Against digits v1 on the same 900 images: +2.8 points (+1.1 to +4.6); 40 images fixed, 15 broken.``"""
    gain, low, high = (f"{100 * entry[key]:+.1f}".replace("-", "−") for key in ("gain", "gain_low", "gain_high"))
    whom = entry["name"] if entry["against"] == "champion" else f"the baseline ({entry['name']})"
    problem = f" {_sentence(entry['problem'])}" if entry.get("problem") else ""
    return (
        f"Against {whom} on the same {entry['images']:,} images: {gain} points ({low} to {high}); "
        f"{entry['fixed']:,} fixed, {entry['broken']:,} broken.{problem}"
    )


def _precision(parity: Json | None) -> list[str]:
    """Whether int8 ships and what it costs, where it was asked for."""
    quantisation = (parity or {}).get("quantisation")
    if not quantisation:
        return []
    advice = f" {quantisation['remedy']}" if quantisation.get("remedy") else ""
    return [_sentence(quantisation["sentence"]) + advice]


def _sentence(text: str) -> str:
    """With a capital at its beginning and a stop at its end."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def confusion(metrics: Json | None) -> Confusion | None:
    if metrics is None or not metrics.get("confusion"):
        return None
    classes, counts = metrics["classes"], metrics["confusion"]
    wrong = [
        (classes[actual], classes[predicted], count, count / sum(row))
        for actual, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and actual != predicted
    ]
    pairs = sorted(wrong, key=lambda pair: (-pair[2], -pair[3]))[:MOST_PAIRS]
    return Confusion(charts.confusion(classes, counts), pairs)


def classes(metrics: Json | None) -> list[ClassRow] | None:
    """The weakest recall first; classes without test images last."""
    if metrics is None:
        return None
    rows = []
    for score in metrics.get("per_class", []):
        recall = estimate(score, "recall")
        rows.append(
            ClassRow(
                label=score["label"],
                images=score["images"],
                precision=finite(score["precision"]),
                recall=recall,
                f1=finite(score["f1"]),
                champion_recall=finite(score.get("champion_recall")),
                bar=charts.interval_bar(*recall) if recall else None,
            )
        )
    return sorted(rows, key=lambda row: row.recall.value if row.recall else math.inf)


def slices(metrics: Json | None) -> list[SliceRow] | None:
    """Of columns with two values or more: what has one says again what stands above."""
    if metrics is None:
        return None
    rows, values = [], Counter(score["column"] for score in metrics.get("slices", []))
    for score in (score for score in metrics.get("slices", []) if values[score["column"]] > 1):
        accuracy = cast(Estimate, estimate(score, "accuracy"))
        champion = finite(score.get("champion_accuracy"))
        bar = charts.interval_bar(*accuracy)
        rows.append(SliceRow(score["column"], score["value"], score["images"], accuracy, champion, bar))
    return rows


def gaps(metrics: Json | None) -> list[str]:
    """How far apart the slices of each column are, and whether that is more than chance."""
    return [_gap(entry) for entry in (metrics or {}).get("gaps", [])]


def _gap(entry: Json) -> str:
    gap, low, high = (f"{100 * entry[key]:+.1f}".replace("-", "−") for key in ("gap", "gap_low", "gap_high"))
    means = "more than chance explains" if entry["gap_low"] > 0 else "chance alone could explain it"
    between = f"between “{entry['best']}” and “{entry['worst']}”"
    chosen = f", the surest of all pairs of its {entry['slices']} values" if entry["slices"] > 2 else ""
    return f"{entry['column']}: {gap} points ({low} to {high}) {between}{chosen}: {means}."


def reliability(metrics: Json | None) -> Reliability | None:
    if metrics is None or not metrics.get("reliability"):
        return None
    bins = [
        charts.Bin(entry["confidence"], entry["accuracy"], entry["images"])
        for entry in metrics["reliability"]
        if entry["images"]
    ]
    return Reliability(charts.reliability(bins), _calibration_sentence(bins, metrics))


def _calibration_sentence(bins: Sequence[charts.Bin], metrics: Json) -> str:
    images = sum(bin.images for bin in bins)
    surplus = sum(bin.images * (bin.confidence - bin.accuracy) for bin in bins) / images
    manner = "about right" if abs(surplus) < 0.01 else "too sure of itself" if surplus > 0 else "too modest"
    return (
        f"On average the model is {manner}: confidence minus accuracy is {100 * surplus:+.1f} points. "
        f"The expected calibration error is {100 * metrics['ece']:.1f} points, the Brier score {metrics['brier']:.3f}."
    ).replace("-", "−")


def mistakes(workspace: Path) -> Mistakes | None:
    """The wrong answers of which the model was surest, with their pictures."""
    path = workspace / CATALOG["predictions"].path
    if not path.is_file():
        return None
    columns = ["id", "name", "label", "predicted", "confidence"]
    answers = pd.read_parquet(path, columns=columns).dropna(subset=["label"])
    wrong = answers[answers["label"] != answers["predicted"]]
    worst = wrong.sort_values(["confidence", "name"], ascending=[False, True]).head(WORST)
    pictures = thumbnails.of_images(workspace, _target(workspace), worst["id"])
    shown = [
        Mistake(
            row["name"],
            row["label"],
            row["predicted"],
            float(row["confidence"]),
            *pictures.get(row["id"], (None, False)),
        )
        for row in worst.to_dict("records")
    ]
    return Mistakes(shown, len(wrong), len(answers))


def _target(workspace: Path) -> Manifest:
    path = workspace / CATALOG["target_manifest"].path
    return Manifest.load(path) if path.is_file() else Manifest.empty()
