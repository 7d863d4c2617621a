"""Gates are monotone: better evidence or a looser limit never turns a pass into a fail."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import plugins
from pipeline.gates._base import PACKAGE, Evidence


class Quantity(NamedTuple):
    """One figure that a gate looks at, the limit beside it, and which way is better."""

    gate: str
    limit: str
    top: float
    higher_is_better: bool

    def evidence(self, value: float) -> Evidence:
        return Evidence(**EVIDENCE[self.gate](value))


def comparison(against: str, value: float) -> dict[str, Any]:
    fields = {"name": "x", "images": 9, "accuracy": 0.5, "gain": value, "gain_low": value, "gain_high": value}
    return {"champion": ["x", "y"], "comparisons": [{"against": against, "problem": None, **fields}]}


EVIDENCE = {
    "accuracy_floor": lambda v: {"metrics": {"accuracy": v, "accuracy_low": v, "accuracy_high": v, "images": 9}},
    "worst_class_recall": lambda v: {
        "metrics": {"per_class": [{"label": "a", "recall": v, "recall_low": v, "recall_high": v, "images": 9}]}
    },
    "not_worse_than_champion": lambda v: {"metrics": comparison("champion", v - 0.5)},
    "better_than_baseline": lambda v: {"metrics": comparison("baseline", v)},
    "calibration": lambda v: {"metrics": {"ece": v, "images": 9}},
    "parity": lambda v: {
        "parity": {
            "images": 9,
            "split": "test",
            "disagreements": 0,
            "max_probability_delta": v,
            "batches": [{"batch_size": 1}],
        }
    },
    "latency": lambda v: {"latency": {"p50_ms": v, "p95_ms": v, "champion_p50_ms": 400.0}},
    "model_size": lambda v: {"metrics": {"model_size_mb": v, "champion_size_mb": 400.0}},
    "robustness": lambda v: {"robustness": {"images": 9, "corruption_accuracy": v}},
    "slice_gap": lambda v: {
        "metrics": {"gaps": [{"column": "a", "best": "b", "worst": "c", "gap": v, "gap_low": v, "gap_high": v}]}
    },
    "no_leakage": lambda v: {
        "metrics": {"leaked_images": int(v)},
        "validation": {"leaks": [], "quarantined": []},
    },
}

QUANTITIES = [
    Quantity("accuracy_floor", "min", 1, True),
    Quantity("worst_class_recall", "min", 1, True),
    Quantity("not_worse_than_champion", "margin", 1, True),
    Quantity("better_than_baseline", "min_gain", 1, True),
    Quantity("calibration", "max_ece", 1, False),
    Quantity("parity", "max_delta", 1, False),
    Quantity("latency", "max_p95_ms", 2000, False),
    Quantity("model_size", "max_mb", 2000, False),
    Quantity("robustness", "min", 1, True),
    Quantity("slice_gap", "max_gap", 1, False),
    Quantity("no_leakage", "max_images", 50, False),
]

FRACTION = st.floats(0, 1)


@pytest.mark.parametrize("quantity", QUANTITIES, ids=[quantity.gate for quantity in QUANTITIES])
@given(values=st.tuples(FRACTION, FRACTION), limit=st.floats(0.001, 1))
def test_better_evidence_never_fails_what_worse_evidence_passed(quantity, values, limit):
    """For each figure: if the worse of two values passes, the better one does."""
    module = plugins.load(PACKAGE, quantity.gate)
    kind = int if quantity.gate == "no_leakage" else float
    params = module.Params.model_validate({quantity.limit: kind(limit * quantity.top)})
    worse, better = sorted(values, reverse=not quantity.higher_is_better)
    findings = [module.check(quantity.evidence(value * quantity.top), params) for value in (worse, better)]
    assert findings[1].passed or not findings[0].passed


@pytest.mark.parametrize("quantity", QUANTITIES, ids=[quantity.gate for quantity in QUANTITIES])
@given(value=FRACTION, limits=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)))
def test_a_looser_limit_never_fails_what_a_stricter_one_passed(quantity, value, limits):
    """``min`` limits loosen downwards, ``max`` limits and margins upwards."""
    module = plugins.load(PACKAGE, quantity.gate)
    kind = int if quantity.gate == "no_leakage" else float
    strict, loose = sorted(limits, reverse=quantity.limit.startswith("min"))
    evidence = quantity.evidence(value * quantity.top)
    findings = [
        module.check(evidence, module.Params.model_validate({quantity.limit: kind(limit * quantity.top)}))
        for limit in (strict, loose)
    ]
    assert findings[1].passed or not findings[0].passed


def test_every_gate_with_a_limit_obeys_the_laws():
    """A new gate with a numeric limit belongs in the table above."""
    limited = {
        name
        for name in plugins.names(PACKAGE)
        if any(field.annotation in (int, float) for field in plugins.load(PACKAGE, name).Params.model_fields.values())
    }
    assert {quantity.gate for quantity in QUANTITIES} == limited
