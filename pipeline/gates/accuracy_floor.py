"""Accuracy on the target's test images must reach a floor."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing, with_interval

SUMMARY = "accuracy on the test images reaches a floor"


class Params(GateParams):
    """Limits of this gate."""

    min: float = Field(0.8, ge=0, le=1, description="lowest accuracy that passes; compared with the point estimate")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the point estimate; its 95 % interval stands in the sentence."""
    required = f"floor {params.min:.2f}"
    metrics = evidence.metrics
    if metrics.get("accuracy") is None:
        return missing(__name__, "accuracy (no labelled test image)", required=required)
    interval = with_interval(metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"])
    observed = f"accuracy {interval} on {metrics['images']:,} images"
    return finding(__name__, metrics["accuracy"] >= params.min, observed=observed, required=required)
