"""How the network came about, from ``training.json`` and ``trials.json``."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.reporting import charts
from pipeline.reporting.reading import Json, finite, percent, words
from pipeline.reporting.view import CandidateRow, GroupRow, Training

SOURCE = " on images of the source, which says nothing of the target"


def training(record: Json | None, trials: Json | None) -> Training | None:
    if record is None:
        return None
    groups = [GroupRow(**{field: row.get(field) for field in GroupRow._fields}) for row in record.get("groups", [])]
    history = record.get("history", [])
    return Training(
        details=_details(record),
        charts=[*_curves(history), *_terms(history)],
        sentences=record.get("sentences", []),
        groups=groups,
        candidates=_candidates(record, trials),
    )


def _candidates(record: Json, trials: Json | None) -> list[CandidateRow]:
    """What ``auto`` tried, with what it cost where that was kept."""
    seconds: dict[tuple[str, int], float] = {}
    for trial in (trials or {}).get("rows", []):
        key = (trial["strategy"], trial["repeat"])
        seconds[key] = seconds.get(key, 0.0) + trial["seconds"]
    return [
        CandidateRow(
            strategy=row["strategy"],
            seed=row["repeat"] + 1,
            outcome=row["outcome"],
            accuracy=finite(row.get("accuracy")),
            judged=row.get("judged", 0),
            mixval=finite(row.get("mixval")),
            balance=finite(row.get("balance")),
            seconds=seconds.get((row["strategy"], row["repeat"])),
            network_mb=finite(row.get("network_mb")),
            why=row["why"],
        )
        for row in record.get("candidates", [])
    ]


def _terms(history: Sequence[Json]) -> list[Markup]:
    """Parts of the loss, and other values that were measured along with it, one small chart each."""
    names = list(dict.fromkeys(name for entry in history for name in entry.get("terms", {})))
    drawn = []
    for name in names:
        values = [(float(number), finite(entry.get("terms", {}).get(name))) for number, entry in enumerate(history, 1)]
        points = [(number, value) for number, value in values if value is not None]
        is_share = name.endswith(("accuracy", "retention", "agreement", "share"))
        series = charts.Series(words(name), "first", points)
        drawn.append(charts.lines(words(name).capitalize(), [series] if points else [], [], is_share=is_share))
    return [chart for chart in drawn if chart]


def _details(record: Json) -> list[tuple[str, str]]:
    """How the network came about, in a few lines."""
    images, measured = record.get("images", {}), (record.get("val_accuracy"), record.get("cv_accuracy"))
    is_of_source = record.get("labels_from") == "source" and any(value is not None for value in measured)
    found = [
        ("Strategy", record["strategy"] + (f", which chose {record['chose']}" if record.get("chose") else "")),
        ("Labels from", f"the {record['labels_from']}" if record.get("labels_from") else None),
        ("Images", " · ".join(f"{count:,} {name}" for name, count in images.items())),
        ("Chosen on", (record.get("selection") or "") + " of the source" * is_of_source),
        ("Chosen", ", ".join(f"{name} {value:g}" for name, value in record.get("chosen", {}).items())),
        (f"Validation accuracy{SOURCE * is_of_source}", percent(measured[0])),
        (f"Probe’s cross-validated accuracy{SOURCE * is_of_source}", percent(measured[1])),
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
