"""Optional: the answers must stand against what cameras and weather do, or against an adversary."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, OptionalGateParams, finding, missing, with_interval

SUMMARY = "accurate enough under corruptions, or under attack"

AGAINST = {
    "corruptions": ("corruption_accuracy", "mean of all corruptions"),
    "worst_corruption": ("worst_corruption_accuracy", "the worst corruption"),
    "fgsm_2": ("fgsm_2_accuracy", "FGSM at 2/255"),
    "pgd_2": ("pgd_2_accuracy", "FGSM and PGD at 2/255"),
    "fgsm_8": ("fgsm_8_accuracy", "FGSM at 8/255"),
    "pgd_8": ("pgd_8_accuracy", "FGSM and PGD at 8/255"),
}
"""Figure in robustness.json and its name for people."""


class Params(OptionalGateParams):
    """Limits of this gate."""

    against: Literal["corruptions", "worst_corruption", "fgsm_2", "pgd_2", "fgsm_8", "pgd_8"] = Field(
        "corruptions",
        description="what the accuracy is taken under; attacks break any network not trained against them",
    )
    min: float = Field(0.5, ge=0, le=1, description="lowest accuracy that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the point estimate on the sample that the explain stage tried; the interval stands in the sentence."""
    key, name = AGAINST[params.against]
    required = f"floor {params.min:.2f}"
    report = evidence.robustness
    value = report.get(key)
    if value is None:
        return missing(__name__, f"accuracy under {name} (see explain in params.yaml)", required=required)
    observed = f"accuracy {_estimate(report, key, value)} under {name} on {report['images']:,} test images"
    if (evidence.parity.get("quantisation") or {}).get("shipped"):
        observed += ", of the float32 network by torch, not of the int8 file that ships"
    return finding(__name__, value >= params.min, observed=observed, required=required)


def _estimate(report: dict[str, Any], key: str, value: float) -> str:
    attack, _, epsilon = key.removesuffix("_accuracy").partition("_")
    entries = [
        entry for entry in report.get("attacks", []) if (entry["attack"], str(entry["epsilon"])) == (attack, epsilon)
    ]
    bounds = entries[0] if entries else report
    name = "accuracy" if entries else key
    low, high = bounds.get(f"{name}_low"), bounds.get(f"{name}_high")
    return f"{value:.3f}" if low is None or high is None else with_interval(value, low, high)
