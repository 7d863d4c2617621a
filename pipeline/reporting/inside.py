"""What the network looks at and how it stands against changes, from ``explanations.json`` and ``robustness.json``."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import cast

from pipeline.evaluation.explain_report import FILE
from pipeline.reporting import charts
from pipeline.reporting.reading import Json, estimate, finite, json_of, words
from pipeline.reporting.view import AttackRow, CorruptionRow, Estimate, Look, LookedAt, MethodRow, Picture, Robustness

METHODS = {"grad_cam": "Grad-CAM", "eigen_cam": "EigenCAM", "random": "random map"}

ATTACKS = {"fgsm": "FGSM", "pgd": "FGSM and PGD"}
"""What an entry counts: PGD tries only what FGSM left standing."""


# -- what it looks at --------------------------------------------------------------------------------------------------


def looked_at(folder: Path) -> LookedAt | None:
    """The examples class by class, each with its pictures as data URIs."""
    report = json_of(folder / FILE)
    if report is None:
        return None
    examples = [(example, _look(folder, example)) for example in report["examples"]]
    domains = [name for name in ("target", "source") if any(example["domain"] == name for example, _ in examples)]
    by_class: dict[str, dict[str, Look]] = {}
    for example, look in examples:
        by_class.setdefault(example["shown_for"], {})[example["domain"]] = look
    return LookedAt(
        domains=domains,
        rows=[(label, [looks.get(name) for name in domains]) for label, looks in by_class.items()],
        methods=[MethodRow(_method(row), row["deletion"], row["insertion"]) for row in report["methods"]],
        layer=report.get("layer"),
        grid=" × ".join(str(side) for side in report.get("grid") or ()),
        notes=[_sentence(note) for note in report["notes"]],
    )


def _look(folder: Path, example: Json) -> Look:
    null = next((f"random {_score(found)}" for found in example["maps"] if found["method"] == "random"), "")
    maps = [found for found in example["maps"] if found["file"]]
    return Look(
        name=example["name"],
        label=example["label"],
        predicted=example["predicted"],
        confidence=example["confidence"],
        pictures=[
            Picture("image", _uri(folder / example["image"]), null),
            *(Picture(_method(found), _uri(folder / found["file"]), _score(found)) for found in maps),
        ],
    )


def _score(found: Json) -> str:
    return f"{found['deletion']:.2f} / {found['insertion']:.2f}"


def _method(entry: Json) -> str:
    return METHODS.get(entry["method"], words(entry["method"]))


def _uri(path: Path) -> str | None:
    """A picture inside the page; None where the file is gone."""
    if not path.is_file():
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


# -- robustness --------------------------------------------------------------------------------------------------------


def robustness(report: Json | None) -> Robustness | None:
    if report is None:
        return None
    return Robustness(
        images=report["images"],
        clean=estimate(report, "clean_accuracy"),
        attacks=_attacks(report),
        corruptions=_corruptions(report),
        corrupted=estimate(report, "corruption_accuracy"),
        ratio=finite(report.get("corruption_ratio")),
        notes=[_sentence(note) for note in report["notes"]],
    )


def _attacks(report: Json) -> list[AttackRow]:
    """The unchanged images, then every attack within every ball."""
    clean = estimate(report, "clean_accuracy")
    if clean is None or not report["attacks"]:
        return []
    rows = [AttackRow("none", "", clean, charts.interval_bar(*clean))]
    for entry in report["attacks"]:
        accuracy = cast(Estimate, estimate(entry, "accuracy"))
        name = ATTACKS.get(entry["attack"], words(entry["attack"]))
        steps = f"{entry['steps']} steps" if entry["steps"] > 1 else "one step"
        rows.append(AttackRow(name, f"{entry['epsilon']}/255, {steps}", accuracy, charts.interval_bar(*accuracy)))
    return rows


def _corruptions(report: Json) -> list[CorruptionRow]:
    """One row per corruption with a column per severity; the most harmful first."""
    by_name: dict[str, list[float]] = {}
    for entry in report["corruptions"]:
        by_name.setdefault(entry["corruption"], []).append(entry["accuracy"])
    rows = [
        CorruptionRow(words(name), values, sum(values) / len(values), charts.severity_line(values))
        for name, values in by_name.items()
    ]
    return sorted(rows, key=lambda row: row.mean)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
