"""A model trained on data that broke the expectations is not promoted."""

from __future__ import annotations

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "the data met every critical expectation"


class Params(GateParams):
    """No limits here: they stand in the suites, and ``validate`` in params.yaml."""


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the validation report; warnings are told, not judged."""
    required = "no critical expectation failed"
    report = evidence.validation
    if not report.get("checks"):
        return missing(__name__, "validation report", required=required)
    failed = [entry for entry in report["checks"] if not entry["passed"]]
    critical = [entry["name"] for entry in failed if entry["severity"] == "critical"]
    observed = f"{len(report['checks'])} expectations, {len(critical)} critical failed, {_warnings(failed)}"
    why = f"{observed}: {', '.join(critical)}" if critical else observed
    return finding(__name__, report["success"] and not critical, observed=observed, required=required, why=why)


def _warnings(failed: list[dict[str, object]]) -> str:
    count = sum(entry["severity"] == "warning" for entry in failed)
    return f"{count} warning{'s' * (count != 1)}"
