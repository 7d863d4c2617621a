"""Turns a workspace's files into what the page shows: the templates never see a raw report.

Reports are read as plain data by their path: the report of a run from before an upgrade can be written again, and a
report that is missing costs its section and nothing else. ``scores``, ``learning`` and ``data`` know their own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.catalog import CATALOG
from pipeline.core import digests, plugins
from pipeline.core.redaction import HIDDEN, redact
from pipeline.gates._base import PACKAGE
from pipeline.graph.table import STAGES
from pipeline.reporting import backbones, data, domains, inside, learning, provenance, scores, suspects
from pipeline.reporting.reading import Json, estimate, finite, history_of, json_of, text_of, words
from pipeline.reporting.view import Comparison, CostRow, Costs, GateRow, Gates, Headline, Outcome, Page

if TYPE_CHECKING:
    from pipeline.params import Settings


def gather(workspace: Path, settings: Settings, outcome: str | None = None) -> Page:
    """Everything the page shows about the last run; ``outcome`` as in :func:`pipeline.reporting.report.write`."""
    reports = ("metrics", "latency", "training", "verdict", "validation", "champion", "ranking")
    metrics, latency, training, verdict, validation, champion, ranking = (
        json_of(workspace / CATALOG[name].path) for name in reports
    )
    costs = _costs(workspace)
    return Page(
        headline=_headline(workspace, settings, outcome, verdict, metrics, costs, backbones.chosen(ranking)),
        gates=_gates(verdict),
        numbers=scores.numbers(metrics, latency, json_of(workspace / CATALOG["parity"].path)),
        confusion=scores.confusion(metrics),
        classes=scores.classes(metrics),
        slices=scores.slices(metrics),
        gaps=scores.gaps(metrics),
        reliability=scores.reliability(metrics),
        backbones=backbones.backbones(ranking),
        training=learning.training(training, json_of(workspace / CATALOG["trials"].path)),
        mistakes=scores.mistakes(workspace),
        labels=suspects.labels(workspace, metrics),
        looked_at=inside.looked_at(workspace / CATALOG["explanations"].path),
        robustness=inside.robustness(json_of(workspace / CATALOG["robustness"].path)),
        changes=data.changes(validation, champion),
        domains=domains.domains(*(json_of(workspace / CATALOG[name].path) for name in ("domains", "drift"))),
        validation=data.validation(workspace, validation),
        costs=costs,
        provenance=provenance.facts(workspace, settings),
        params=_params(workspace, settings),
        bundle=_bundle(workspace, settings),
    )


def _params(workspace: Path, settings: Settings) -> str | None:
    """params.yaml as written, without the secrets in it."""
    text = text_of(workspace / "params.yaml")
    webhook = settings.notify.webhook.get_secret_value() if settings.notify.webhook else None
    return text and redact(text.replace(webhook, HIDDEN) if webhook else text)


def _headline(
    workspace: Path,
    settings: Settings,
    outcome: str | None,
    verdict: Json | None,
    metrics: Json | None,
    costs: Costs | None,
    ranked_best: str | None,
) -> Headline:
    history = history_of(workspace, settings.model)
    decision = _decision(workspace, history)
    decided = cast(Outcome, outcome) if outcome else _outcome(verdict)
    comparison = scores.comparison(metrics)
    return Headline(
        outcome=decided,
        reason=_reason(decided, verdict, comparison or _why_not_compared(metrics), _champion_now(history)),
        model=settings.model,
        version=f"v{decision['version']}" if decision else None,
        classes=len(metrics["classes"]) if metrics else None,
        test_images=metrics["images"] if metrics else None,
        strategy=settings.train.strategy.name,
        backbone=ranked_best or settings.backbone.name,
        accuracy=estimate(metrics, "accuracy"),
        comparison=comparison or _why_not_compared(metrics),
        finished=_finished(costs),
        since=_since(history),
    )


def _since(history: Sequence[Json]) -> str | None:
    """What a person has decided after the last run, in a sentence: the page of a run is looked at long after it."""
    last_run = max(
        (number for number, entry in enumerate(history) if entry.get("verdict_digest")), default=len(history)
    )
    by_hand = [entry for entry in history[last_run + 1 :] if entry["action"] != "held"]
    if not by_hand:
        return None
    last = by_hand[-1]
    return f"{last['model']} v{last['version']} is the champion since {last['time'][:10]}: {last['reason']}."


def _decision(workspace: Path, history: Sequence[Json]) -> Json | None:
    """The last decision about exactly the model file that lies in the workspace."""
    path = workspace / CATALOG["model"].path
    sha256 = digests.of_file(path) if path.is_file() else None
    return next((entry for entry in reversed(history) if entry.get("model_sha256") == sha256), None)


def _champion_now(history: Sequence[Json]) -> str | None:
    """``digits v1``: the version that was promoted or brought back last."""
    entry = next((entry for entry in reversed(history) if entry["action"] != "held"), None)
    return f"{entry['model']} v{entry['version']}" if entry else None


def _outcome(verdict: Json | None) -> Outcome:
    if verdict is None:
        return "unjudged"
    return "passed" if verdict["passed"] else "held"


def _finished(costs: Costs | None) -> str | None:
    """When the last stage ended: ``20 November 2026, 11:52``."""
    times = [datetime.fromisoformat(row.finished) for row in costs.rows if row.finished] if costs else []
    return f"{max(times).day} {max(times):%B %Y, %H:%M}" if times else None


def _why_not_compared(metrics: Json | None) -> str:
    """Where there is no comparison with the champion, as the second half of a sentence."""
    if metrics is None:
        return "it has not been compared with a champion yet"
    if not metrics.get("champion"):
        return "there was no champion to compare with"
    return "it was not compared with the champion: no test image has a label that both know"


def _reason(outcome: Outcome, verdict: Json | None, comparison: Comparison | str, champion: str | None) -> str:
    """Why, in a sentence."""
    if verdict is None:
        return "The gates have not judged this run yet."
    findings = verdict["findings"]
    failed = [finding for finding in findings if not finding["passed"]]
    judgement = _failure(failed, len(findings)) if failed else f"All {len(findings)} gates passed"
    if outcome == "unchanged":
        stays = f"{champion} stays champion" if champion else "there is no champion yet"
        return f"Data, params and code are those of the last run, so {stays}. {judgement}."
    return f"{judgement}." if failed else f"{judgement}{_against(comparison)}."


def _failure(failed: Sequence[Json], gates: int) -> str:
    names = ", ".join(f"“{words(finding['gate'])}”" for finding in failed)
    if len(failed) == 1:
        return f"The gate {names} failed: {failed[0]['why']}"
    return f"{len(failed)} of {gates} gates failed ({names}); the first: {failed[0]['why']}"


def _against(comparison: Comparison | str) -> str:
    if isinstance(comparison, str):
        return f"; {comparison}"
    gain = 100 * comparison.gain.value
    if abs(gain) < 0.05:
        return f"; it is as accurate as {comparison.name} on the same images"
    word = "more" if gain > 0 else "less"
    return f"; it is {abs(gain):.1f} points {word} accurate than {comparison.name} on the same images"


def _gates(verdict: Json | None) -> Gates | None:
    if verdict is None:
        return None
    rows = []
    for finding in verdict["findings"]:
        rows.append(
            GateRow(
                gate=words(finding["gate"]),
                demands=_demands(finding["gate"]),
                passed=finding["passed"],
                observed=finding["observed"],
                required=finding["required"],
                why=_beyond(finding),
            )
        )
    off, not_asked = ([words(gate) for gate in verdict.get(key, [])] for key in ("off", "not_asked"))
    return Gates(rows, off, not_asked)


def _beyond(finding: Json) -> str | None:
    """What the reason says beyond the figures that stand beside it."""
    told, begins = finding["why"], finding["observed"]
    if told.startswith(begins) and told[len(begins) : len(begins) + 1] in ("", ",", ":", ";"):
        told = told[len(begins) :].lstrip(",:; ")
    return told if told not in ("", finding["required"]) else None


def _demands(gate: str) -> str:
    """The gate's own summary; nothing for a gate that has been removed since."""
    return plugins.load(PACKAGE, gate).SUMMARY if gate in plugins.names(PACKAGE) else ""


def _costs(workspace: Path) -> Costs | None:
    found = [cost for stage in STAGES if (cost := json_of(workspace / f".graftline/costs/{stage.name}.json"))]
    if not found:
        return None
    longest = max(cost["seconds"] for cost in found) or 1.0
    rows = [
        CostRow(
            cost["stage"],
            cost["seconds"],
            finite(cost.get("peak_mb")),
            cost.get("line", ""),
            share=cost["seconds"] / longest,
            finished=cost.get("finished"),
        )
        for cost in found
    ]
    return Costs(rows, sum(row.seconds for row in rows))


def _bundle(workspace: Path, settings: Settings) -> list[tuple[str, str]] | None:
    folder = workspace / CATALOG["bundle"].path
    if not folder.is_dir():
        return None
    files = [path for path in folder.rglob("*") if path.is_file()]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    current = workspace / settings.publish.handoff / "current"
    found = [("This run's bundle", f"{folder}  ({len(files)} files, {size_mb:.2f} MB)")]
    if current.exists():
        found.append(("In production", str(current)))
    return [
        *found,
        ("On the command line", "graftline predict bundle IMAGES…"),
        ("The champion, by its alias", f"graftline predict {settings.model}@champion IMAGES…"),
        ("In Python", 'from pipeline.serving.predictor import Predictor; Predictor("bundle").probabilities(images)'),
    ]
