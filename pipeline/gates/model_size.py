"""The file must fit where it goes."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "small enough, and not much larger than the champion"


class Params(GateParams):
    """Limits of this gate."""

    max_mb: float = Field(1000.0, gt=0, description="largest file that passes, millions of bytes")
    max_ratio: float = Field(3.0, gt=0, description="size over the champion's")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the exported file against the limit and against the champion's."""
    limit = f"up to {params.max_mb:g} MB"
    size_mb = evidence.metrics.get("model_size_mb")
    if size_mb is None:
        return missing(__name__, "model size", required=limit)
    observed = f"{size_mb:.1f} MB"
    champion_mb = evidence.metrics.get("champion_size_mb")
    if champion_mb is None:
        return finding(__name__, size_mb <= params.max_mb, observed=observed, required=limit)
    required = f"{limit} and {params.max_ratio:g} times the champion's {champion_mb:.1f} MB"
    passed = size_mb <= min(params.max_mb, params.max_ratio * champion_mb)
    return finding(__name__, passed, observed=observed, required=required)
