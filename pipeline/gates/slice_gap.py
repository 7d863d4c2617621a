"""Optional: no slice of the data may be served much worse than another."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, OptionalGateParams, finding, missing, with_interval

SUMMARY = "no slice is answered much worse than another"


class Params(OptionalGateParams):
    """Limits of this gate."""

    max_gap: float = Field(0.1, ge=0, le=1, description="largest difference of accuracy between two slices that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the lower end of each column's gap: what small slices show by chance does not fail, what is certain does.

    The interval allows for the number of pairs that a column's values make.
    """
    required = f"lower end at most {params.max_gap:.2f}"
    gaps = evidence.metrics.get("gaps")
    if not gaps:
        return missing(__name__, "column with two values among the labelled test images", required=required)
    worst = max(gaps, key=lambda gap: gap["gap_low"])
    interval = with_interval(worst["gap"], worst["gap_low"], worst["gap_high"], sign=True)
    observed = f"gap {interval} between {worst['column']} '{worst['best']}' and '{worst['worst']}'"
    return finding(__name__, worst["gap_low"] <= params.max_gap, observed=observed, required=required)
