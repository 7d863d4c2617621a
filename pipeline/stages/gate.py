"""Judge the evidence: every gate says what it found, and the model passes if all of them pass.

A failed gate is a result, written down like any other; this stage fails only if it cannot judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.core import params as base
from pipeline.core import plugins
from pipeline.core.context import Context, Result
from pipeline.gates._base import PACKAGE, Evidence, Finding, OptionalGateParams, Verdict, gates_params

if TYPE_CHECKING:
    from pipeline.data.expectations import ValidationReport
    from pipeline.evaluation.explain_report import Robustness
    from pipeline.evaluation.report import Latency, Metrics
    from pipeline.serving.parity_report import ParityReport
    from pipeline.training.record import TrainingRecord

Gates: Any = gates_params()


class Params(base.Params):
    """Limits of each gate, by its name: ``{accuracy_floor: {min: 0.9}, latency: false, robustness: true}``."""

    gates: Gates = Field(
        Gates(), description="each gate's limits; a bare false turns a gate off, a bare true an optional one on"
    )


def run(
    params: Params,
    context: Context,
    *,
    metrics: Metrics,
    latency: Latency,
    parity: ParityReport,
    validation: ValidationReport,
    training: TrainingRecord,
    robustness: Robustness,
) -> Result:
    """Let every gate that is on look at the reports."""
    evidence = Evidence(
        metrics=metrics.model_dump(mode="json"),
        latency=latency.model_dump(mode="json"),
        parity=parity.model_dump(mode="json"),
        validation=validation.model_dump(mode="json"),
        training=training.model_dump(mode="json"),
        robustness=robustness.model_dump(mode="json"),
    )
    limits = {name: getattr(params.gates, name) for name in plugins.names(PACKAGE)}
    findings = [_check(name, evidence, limit) for name, limit in limits.items() if limit.enabled]
    idle = {name: limit for name, limit in limits.items() if not limit.enabled}
    verdict = Verdict(
        passed=all(finding.passed for finding in findings),
        findings=findings,
        off=[name for name, limit in idle.items() if not isinstance(limit, OptionalGateParams)],
        not_asked=[name for name, limit in idle.items() if isinstance(limit, OptionalGateParams)],
    )
    return Result(_line(verdict), {"verdict": verdict})


def _check(name: str, evidence: Evidence, limits: base.Params) -> Finding:
    return plugins.load(PACKAGE, name).check(evidence, limits)


def _line(verdict: Verdict) -> str:
    """``10 passed, 1 failed (latency), 1 off``."""
    failed = f" ({', '.join(finding.gate for finding in verdict.failed)})" if verdict.failed else ""
    off = f", {len(verdict.off)} off" if verdict.off else ""
    return f"{len(verdict.findings) - len(verdict.failed)} passed, {len(verdict.failed)} failed{failed}{off}"
