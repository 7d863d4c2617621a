"""Reads a workspace's files as plain data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pipeline.reporting.view import Estimate

Json = dict[str, Any]


def text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def json_of(path: Path) -> Json | None:
    content = text_of(path)
    return None if content is None else json.loads(content)


def history_of(workspace: Path, model: str) -> list[Json]:
    """Decisions about ``model``, oldest first; a line that a crash cut short is passed over."""
    entries = []
    for line in (text_of(workspace / "state/history.jsonl") or "").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [entry for entry in entries if entry.get("model") == model]


def finite(value: Any) -> float | None:
    """``value`` where it is a finite number; JSON reports may hold null or NaN."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def estimate(report: Json | None, key: str) -> Estimate | None:
    """``key`` with ``key_low`` and ``key_high``, as the reports write intervals; None where there is no value."""
    value = finite(report.get(key)) if report else None
    if report is None or value is None:
        return None
    return Estimate(value, finite(report.get(f"{key}_low")), finite(report.get(f"{key}_high")))


def percent(value: Any) -> str | None:
    share = finite(value)
    return None if share is None else f"{100 * share:.1f} %"


def words(name: str) -> str:
    """``accuracy_floor`` as ``accuracy floor``."""
    return name.replace("_", " ")
