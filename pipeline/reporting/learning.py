"""How the network came about, from ``training.json``."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.reporting import charts
from pipeline.reporting.reading import Json, finite, percent, words
from pipeline.reporting.view import GroupRow, Training


def training(record: Json | None) -> Training | None:
    if record is None:
        return None
    groups = [GroupRow(**{field: row.get(field) for field in GroupRow._fields}) for row in record.get("groups", [])]
    return Training(_details(record), _curves(record.get("history", [])), record.get("sentences", []), groups)


def _details(record: Json) -> list[tuple[str, str]]:
    """How the network came about, in a few lines."""
    images = record.get("images", {})
    found = [
        ("Strategy", record["strategy"]),
        ("Labels from", f"the {record['labels_from']}" if record.get("labels_from") else None),
        ("Images", " · ".join(f"{count:,} {name}" for name, count in images.items())),
        ("Chosen on", record.get("selection")),
        ("Chosen", ", ".join(f"{name} {value:g}" for name, value in record.get("chosen", {}).items())),
        ("Validation accuracy", percent(record.get("val_accuracy"))),
        ("Probe’s cross-validated accuracy", percent(record.get("cv_accuracy"))),
        ("Checked", ", ".join(_guard(name, kept) for name, kept in record.get("guards", {}).items())),
    ]
    return [(name, value) for name, value in found if value]


def _guard(name: str, kept: bool) -> str:
    return words(name) + ("" if kept else " (broken)")


def _curves(history: Sequence[Json]) -> list[Markup]:
    """Loss and validation accuracy over all epochs, phase after phase."""
    marks = [
        (float(number), entry["phase"])
        for number, entry in enumerate(history, start=1)
        if number == 1 or entry["phase"] != history[number - 2]["phase"]
    ]
    train = charts.Series("train", "first", _points(history, "train_loss"))
    validation = charts.Series("validation", "second", _points(history, "val_loss"))
    accuracy = charts.Series("validation", "second", _points(history, "val_accuracy"))
    drawn = [
        charts.lines("Loss", [one for one in (train, validation) if one.points], marks, is_share=False),
        charts.lines("Accuracy", [accuracy], marks, is_share=True),
    ]
    return [chart for chart in drawn if chart]


def _points(history: Sequence[Json], key: str) -> list[tuple[float, float]]:
    values = [(float(number), finite(entry.get(key))) for number, entry in enumerate(history, start=1)]
    return [(number, value) for number, value in values if value is not None]
