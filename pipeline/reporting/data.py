"""What the data are, whether they are as they must be, and what changed since the champion: ``validation.json``."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pipeline.catalog import CATALOG
from pipeline.data import profile
from pipeline.data import validation as judgements
from pipeline.reporting.reading import Json
from pipeline.reporting.view import Change, Changes, Check, Validation

MOST_NAMED = 10
"""Images or classes named for one check."""


# -- validation --------------------------------------------------------------------------------------------------------


def validation(workspace: Path, report: Json | None) -> Validation | None:
    if report is None:
        return None
    checks = [_check(entry) for entry in report["checks"]]
    docs = workspace / CATALOG["data_docs"].path / "index.html"
    return Validation(
        sentence=_summary(checks, report),
        domains=[
            (name, _domain(entry)) for name in ("target", "source") if (entry := report["profile"][name])["images"]
        ],
        problems=[check for check in checks if check.state in ("failed", "warning")],
        passed=[check for check in checks if check.state == "passed"],
        not_applicable=[check for check in checks if check.state == "not applicable"],
        quarantined=[f"{entry['name']}: {entry['reason']}" for entry in report["quarantined"]],
        docs=f"../{CATALOG['data_docs'].path}/index.html" if docs.is_file() else None,
    )


def _check(entry: Json) -> Check:
    judged = judgements.Check.model_validate(entry)
    rows = judged.named[:MOST_NAMED]
    more = judged.unexpected_count - len(rows)
    return Check(
        says=judged.says,
        severity=judged.severity,
        state=judged.state,
        observed=judged.observed,
        named=rows + ([f"and {more:,} more"] if rows and more > 0 else []),
        remedy=judged.remedy,
    )


def _summary(checks: list[Check], report: Json) -> str:
    """``13 checks passed, 1 warning; no image set aside, no leak between splits.``"""
    found = judgements.tally([check.state for check in checks])
    aside = _count(len(report["quarantined"]), "image")
    return f"{found}; {aside} set aside, {_count(report['leak_count'], 'leak')} between splits."


def _count(number: int, noun: str) -> str:
    """``no image``, ``1 image``, ``2 images``."""
    return f"{number:,} {noun}s" if number > 1 else f"{number or 'no'} {noun}"


def _domain(entry: Json) -> str:
    """``1,797 images · 950 labelled, 10 classes · test 899, train 700, val 198 · 8 × 8 px · PNG``"""
    splits = ", ".join(f"{name} {count:,}" for name, count in entry["splits"].items())
    labelled = (
        f"{entry['labelled']:,} labelled, {len(entry['classes']):,} classes" if entry["labelled"] else "unlabelled"
    )
    parts = [f"{entry['images']:,} images", labelled, splits, _sizes(entry), ", ".join(entry["formats"])]
    return " · ".join(part for part in parts if part)


def _sizes(entry: Json) -> str:
    """Median size, and the range where there is one."""
    width, height = entry["width_px"], entry["height_px"]
    if not width or not height:
        return ""
    is_one_size = width["min"] == width["max"] and height["min"] == height["max"]
    limits = f" ({width['min']} × {height['min']} to {width['max']} × {height['max']})"
    return f"{width['median']} × {height['median']} px{'' if is_one_size else limits}"


# -- changes -----------------------------------------------------------------------------------------------------------


def changes(validation: Json | None, champion: Json | None) -> Changes | None:
    """The data of this run against those that the champion was trained on."""
    if validation is None:
        return None
    if not champion or not champion.get("profile"):
        return Changes("There was no champion whose data these could be compared with.", [])
    name = f"{champion['model']} v{champion['version']}"
    try:
        before, now = (profile.DataProfile.model_validate(entry["profile"]) for entry in (champion, validation))
    except ValidationError:
        return Changes(f"The data of {name} were described by another version of Graftline; they are not compared.", [])
    found = profile.changes(before, now)
    if not found:
        return Changes(f"Images and labels are those that {name} was trained on.", [])
    return Changes(f"Since {name} was trained:", [_change(change) for change in found])


def _change(change: profile.Change) -> Change:
    what = {"labelled": "labelled images", "content": "other images or labels, in the same number"}
    subject = f"{change.what} {change.name}" if change.name is not None else what.get(change.what, change.what)
    return Change(change.domain, subject, change.before, change.after)
