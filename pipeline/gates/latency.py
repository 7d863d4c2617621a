"""An answer must come in time."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "fast enough, and not much slower than the champion"


class Params(GateParams):
    """Limits of this gate."""

    max_p95_ms: float = Field(1000.0, gt=0, description="95th percentile of one image on this machine's CPU")
    max_ratio: float = Field(2.0, gt=0, description="median time over the champion's")
    slack_ms: float = Field(1.0, ge=0, description="slower by no more than this passes whatever the ratio")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the 95th percentile against the limit, and the median against the champion's, measured in turns with it."""
    limit = f"p95 up to {params.max_p95_ms:g} ms"
    times = evidence.latency
    if times.get("p95_ms") is None:
        return missing(__name__, "measured latency", required=limit)
    observed = f"p50 {times['p50_ms']:.1f} ms, p95 {times['p95_ms']:.1f} ms at batch 1"
    is_fast = times["p95_ms"] <= params.max_p95_ms
    champion_ms = times.get("champion_p50_ms")
    if champion_ms is None:
        return finding(__name__, is_fast, observed=observed, required=limit)
    allowed_ms = max(params.max_ratio * champion_ms, champion_ms + params.slack_ms)
    required = f"{limit}, p50 up to {allowed_ms:.1f} ms (champion {champion_ms:.1f} ms)"
    return finding(__name__, is_fast and times["p50_ms"] <= allowed_ms, observed=observed, required=required)
