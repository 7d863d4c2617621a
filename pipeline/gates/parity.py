"""What ships must answer as what was trained."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "the exported file answers as the trained network does"


class Params(GateParams):
    """Limits of this gate."""

    max_delta: float = Field(1e-4, gt=0, description="largest difference of any probability that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge every image at every batch size: the same class on all, and probabilities within ``max_delta``."""
    required = f"the same class on all, max |Δp| below {params.max_delta:.0e}"
    report = evidence.parity
    if not report.get("images"):
        return missing(__name__, "image on which file and network were compared", required=required)
    sizes = ", ".join(str(batch["batch_size"]) for batch in report["batches"])
    differ = report["disagreements"]
    agreement = f"{differ} disagreements" if differ else "the same class"
    observed = (
        f"{agreement} on {report['images']:,} {report['split']} images at batch {sizes};"
        f" max |Δp| {report['max_probability_delta']:.1e}"
    )
    passed = differ == 0 and report["max_probability_delta"] < params.max_delta
    return finding(__name__, passed, observed=observed, required=required)
