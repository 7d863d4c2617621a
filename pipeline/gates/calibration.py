"""A probability must mean what it says."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "confidence agrees with accuracy"


class Params(GateParams):
    """Limits of this gate."""

    max_ece: float = Field(0.15, ge=0, le=1, description="highest expected calibration error that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the expected calibration error over 15 bins. With few images it is biased upwards, so this errs on no."""
    required = f"limit {params.max_ece:.2f}"
    error = evidence.metrics.get("ece")
    if error is None:
        return missing(__name__, "calibration error (no labelled test image)", required=required)
    observed = f"expected calibration error {error:.3f} on {evidence.metrics['images']:,} images"
    return finding(__name__, error <= params.max_ece, observed=observed, required=required)
