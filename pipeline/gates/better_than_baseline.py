"""Transfer must be worth its cost: at least as good as a method without training."""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing, with_interval

SUMMARY = "at least as accurate as the simple baseline"


class Params(GateParams):
    """Limits of this gate."""

    min_gain: float = Field(0.0, ge=-1, le=1, description="lowest gain in accuracy over the baseline that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the point estimate of the gain; its 95 % paired bootstrap interval stands in the sentence."""
    required = f"at least {params.min_gain:+.3f}"
    gain = evidence.comparison("baseline")
    if gain is None:
        return missing(__name__, "comparison with a baseline (no labelled test image)", required=required)
    interval = with_interval(gain["gain"], gain["gain_low"], gain["gain_high"], sign=True)
    observed = f"accuracy {interval} against {gain['name']} ({gain['accuracy']:.3f})"
    return finding(__name__, gain["gain"] >= params.min_gain, observed=observed, required=required)
