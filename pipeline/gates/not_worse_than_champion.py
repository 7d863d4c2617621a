"""A challenger that is worse than the champion is not promoted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing, with_interval

SUMMARY = "not worse than the champion on the same images"


class Params(GateParams):
    """Limits of this gate."""

    margin: float = Field(0.02, ge=0, le=1, description="loss of accuracy that is tolerated")
    other_classes: Literal["fail", "shared"] = Field(
        "fail", description="where the champion answers other classes: fail, or judge on the classes both answer"
    )


def check(evidence: Evidence, params: Params) -> Finding:
    """Non-inferiority: the lower end of the 95 % paired bootstrap interval of the gain is above minus the margin."""
    required = f"lower end at least {-params.margin:+.3f}"
    if "champion" not in evidence.metrics:
        return missing(__name__, "metrics", required=required)
    if not evidence.metrics["champion"]:
        return finding(__name__, True, observed="no champion", required=required, why="no champion yet to compare with")
    gain = evidence.comparison("champion")
    if gain is None:
        return missing(__name__, "labelled test image that champion and challenger both answer", required=required)
    interval = with_interval(gain["gain"], gain["gain_low"], gain["gain_high"], sign=True)
    observed = f"accuracy {interval} against {gain['name']} on {gain['images']:,} images"
    if gain["problem"] and params.other_classes == "fail":
        why = f"{gain['problem']}; set other_classes: shared to accept that"
        return finding(__name__, False, observed=observed, required="the same classes", why=why)
    return finding(__name__, gain["gain_low"] >= -params.margin, observed=observed, required=required)
