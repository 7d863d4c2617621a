"""What a run shows on its page in Prefect: the gates as a table, the figures, links to the report and the bundle.

The files of the workspace are the truth; an artifact is a copy for people who look at Prefect. A run that changed
nothing leaves those of the run that did: Prefect keeps a history of each.
"""

from __future__ import annotations

import re
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from pipeline.catalog import CATALOG
from pipeline.params import Settings
from pipeline.reporting import report

FIGURES = ("accuracy", "balanced_accuracy", "f1_macro", "worst_class_recall", "ece", "brier", "champion_accuracy")
"""Shown of metrics.json, in this order."""


def _evidence(workspace: Path, settings: Settings) -> None:
    """Gates, figures and the bundle, once they are to be decided on."""
    _gates(workspace, settings)
    _figures(workspace, settings)
    _link(workspace / CATALOG["bundle"].path, "the bundle", _key(settings, "bundle"))


def _page(workspace: Path, settings: Settings) -> None:
    """The report, once it is written."""
    _link(workspace / report.PATH, "the report", _key(settings, "report"))


def _gates(workspace: Path, settings: Settings) -> None:
    verdict = CATALOG["verdict"].load(workspace)
    rows = [
        {
            "gate": finding.gate,
            "": "passed" if finding.passed else "FAILED",
            "observed": finding.observed,
            "required": finding.required,
            "why": finding.why,
        }
        for finding in verdict.findings
    ]
    passed = len(rows) - len(verdict.failed)
    create_table_artifact(
        rows, key=_key(settings, "gates"), description=f"{passed} passed, {len(verdict.failed)} failed"
    )


def _figures(workspace: Path, settings: Settings) -> None:
    metrics, latency = CATALOG["metrics"].load(workspace), CATALOG["latency"].load(workspace)
    lines = [f"| | on {metrics.images:,} test images | 95 % interval |", "|---|---:|---|"]
    for name in FIGURES:
        value, low, high = (getattr(metrics, name + end, None) for end in ("", "_low", "_high"))
        if value is not None:
            interval = f"{low:.4f} to {high:.4f}" if low is not None and high is not None else ""
            lines.append(f"| {name.replace('_', ' ')} | {value:.4f} | {interval} |")
    lines.append(f"| latency p50, p95 | {latency.p50_ms:.1f} ms, {latency.p95_ms:.1f} ms | |")
    lines.append(f"| model | {metrics.model_size_mb:.1f} MB | |")
    create_markdown_artifact("\n".join(lines), key=_key(settings, "metrics"), description="through ONNX Runtime")


def _link(path: Path, text: str, key: str) -> None:
    create_link_artifact(link=path.as_uri(), link_text=f"{text} ({path})", key=key)


def _key(settings: Settings, what: str) -> str:
    """Prefect takes lower-case letters, digits and dashes; under one key it keeps a history."""
    return re.sub(r"[^a-z0-9]+", "-", f"{settings.model}-{what}".lower()).strip("-")


SHOWN = {"evidence": _evidence, "report": _page}
"""By what :meth:`flows.sequence.Runner.show` calls it."""
