"""Which backbones were ranked and why one was taken: ``ranking.json``."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.reporting import charts
from pipeline.reporting.reading import Json, estimate
from pipeline.reporting.view import BackboneRow, Backbones, Estimate


def backbones(ranking: Json | None) -> Backbones | None:
    if ranking is None:
        return None
    rows = [_row(entry) for entry in ranking["rows"]]
    return Backbones(_what(ranking), [text for text in (ranking["reason"], *ranking["notes"]) if text], rows)


def chosen(ranking: Json | None) -> str | None:
    """Name of the architecture that was taken; None where there was nothing to choose from."""
    return next((row["name"] for row in ranking["rows"] if row["is_chosen"]), None) if ranking else None


def _what(ranking: Json) -> str:
    """On what, and how."""
    return (
        f"{len(ranking['rows'])} candidates, each judged by a linear probe on its frozen features: "
        f"{ranking['folds']}-fold cross-validation over {ranking['images']:,} labelled images of "
        f"{ranking['classes']:,} classes, from the {ranking['labels_from']}’s {ranking['split']} split."
    )


def _row(entry: Json) -> BackboneRow:
    accuracy = estimate(entry, "accuracy") or Estimate(0.0)
    return BackboneRow(
        is_chosen=entry["is_chosen"],
        name=entry["name"],
        weights=entry["weights"],
        image_size_px=entry["image_size_px"],
        feature_dim=entry["feature_dim"],
        accuracy=accuracy,
        bar=_bar(accuracy),
        behind=estimate(entry, "behind") if entry["behind"] or entry["behind_high"] else None,
        logme=entry["logme"],
        h_score=entry["h_score"],
        features_s=entry["features_s"] if entry["images_computed"] else None,
        size_mb=entry["size_mb"],
        giga_multiply_adds=entry["multiply_adds"] / 1e9,
    )


def _bar(accuracy: Estimate) -> Markup:
    return charts.interval_bar(accuracy.value, accuracy.low, accuracy.high)
