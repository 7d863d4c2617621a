"""No class may be left behind: the lowest recall of any class must reach a floor."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing, with_interval

SUMMARY = "every class is recognised often enough"


class Params(GateParams):
    """Limits of this gate."""

    min: float = Field(0.5, ge=0, le=1, description="lowest recall of any class that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the point estimate of the weakest class.

    Not the lower end of its Wilson interval: with a few images per class that would judge how many images there are.
    The interval stands in the sentence. A class without test images fails, for nothing is known of it.
    """
    required = f"floor {params.min:.2f}"
    scores = evidence.metrics.get("per_class")
    if not scores:
        return missing(__name__, "recall per class (no labelled test image)", required=required)
    untested = [score["label"] for score in scores if score["recall"] is None]
    if untested:
        return missing(__name__, f"labelled test image of {', '.join(untested)}", required=required)
    worst = min(scores, key=lambda score: score["recall"])
    interval = with_interval(worst["recall"], worst["recall_low"], worst["recall_high"])
    observed = f"lowest recall {interval}, class '{worst['label']}' on {worst['images']:,} images"
    return finding(__name__, worst["recall"] >= params.min, observed=observed, required=required)
