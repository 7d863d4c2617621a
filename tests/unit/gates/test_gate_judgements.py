"""Each gate on the evidence it is about: what passes, what fails, and the sentence that says so."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core import plugins
from pipeline.gates._base import PACKAGE, Evidence, Finding


def judge(gate: str, limits: dict[str, Any] | None = None, **reports: Any) -> Finding:
    module = plugins.load(PACKAGE, gate)
    return module.check(Evidence(**reports), module.Params.model_validate(limits or {}))


def accuracy(value: float, low: float, high: float) -> dict[str, Any]:
    return {"accuracy": value, "accuracy_low": low, "accuracy_high": high, "images": 899}


def recall(label: str, value: float | None, images: int = 90) -> dict[str, Any]:
    return {"label": label, "recall": value, "recall_low": 0.7, "recall_high": 0.9, "images": images}


def gain(against: str, low: float, value: float = 0.0, problem: str | None = None) -> dict[str, Any]:
    return {
        "champion": ["digits v3", "abc"],
        "comparisons": [
            {
                "against": against,
                "name": "digits v3",
                "images": 899,
                "accuracy": 0.91,
                "gain": value,
                "gain_low": low,
                "gain_high": value + 0.02,
                "problem": problem,
            }
        ],
    }


def leak(kind: str, split: str, name: str = "b.png") -> dict[str, Any]:
    left = {"domain": "target", "split": "train", "name": "a.png"}
    return {"kind": kind, "left": left, "right": {"domain": "target", "split": split, "name": name}}


def slice_gap(column: str, gap: float, low: float) -> dict[str, Any]:
    bounds = {"gap": gap, "gap_low": low, "gap_high": gap + 0.1}
    return {"column": column, "slices": 2, "best": "north", "worst": "south", **bounds}


ROBUSTNESS = {
    "images": 128,
    "corruption_accuracy": 0.7,
    "corruption_accuracy_low": 0.65,
    "corruption_accuracy_high": 0.74,
    "worst_corruption_accuracy": 0.1,
    "pgd_8_accuracy": 0.2,
    "attacks": [{"attack": "pgd", "epsilon": 8, "accuracy": 0.2, "accuracy_low": 0.14, "accuracy_high": 0.28}],
}
PARITY = {
    "images": 899,
    "split": "test",
    "disagreements": 0,
    "max_probability_delta": 3.1e-7,
    "batches": [{"batch_size": size, "images": 899 if size == 1 else 128} for size in (1, 2, 7, 32)],
}
CHECK = {"name": "readable", "severity": "critical", "passed": True}
NO_LEAKS = {"leaks": [], "quarantined": []}

CASES = [
    (
        "accuracy_floor",
        {},
        {"metrics": accuracy(0.943, 0.927, 0.958)},
        True,
        "accuracy 0.943 (0.927–0.958) on 899 images; floor 0.80",
    ),
    (
        "accuracy_floor",
        {"min": 0.95},
        {"metrics": accuracy(0.943, 0.927, 0.958)},
        False,
        "accuracy 0.943 (0.927–0.958) on 899 images; floor 0.95",
    ),
    (
        "worst_class_recall",
        {},
        {"metrics": {"per_class": [recall("3", 0.95), recall("8", 0.8)]}},
        True,
        "lowest recall 0.800 (0.700–0.900), class '8' on 90 images; floor 0.50",
    ),
    (
        "worst_class_recall",
        {"min": 0.9},
        {"metrics": {"per_class": [recall("3", 0.95), recall("8", 0.8)]}},
        False,
        "lowest recall 0.800 (0.700–0.900), class '8' on 90 images; floor 0.90",
    ),
    (
        "worst_class_recall",
        {},
        {"metrics": {"per_class": [recall("3", 0.95), recall("8", None, 0)]}},
        False,
        "no labelled test image of 8, so nothing can be shown",
    ),
    ("not_worse_than_champion", {}, {"metrics": {"champion": []}}, True, "no champion yet to compare with"),
    (
        "not_worse_than_champion",
        {},
        {"metrics": gain("champion", -0.012)},
        True,
        "accuracy +0.000 (-0.012 to +0.020) against digits v3 on 899 images; lower end at least -0.020",
    ),
    (
        "not_worse_than_champion",
        {"margin": 0.01},
        {"metrics": gain("champion", -0.012)},
        False,
        "accuracy +0.000 (-0.012 to +0.020) against digits v3 on 899 images; lower end at least -0.010",
    ),
    (
        "not_worse_than_champion",
        {},
        {"metrics": gain("champion", 0.1, problem="the challenger newly answers 'owl'")},
        False,
        "the challenger newly answers 'owl'; set other_classes: shared to accept that",
    ),
    (
        "not_worse_than_champion",
        {"other_classes": "shared"},
        {"metrics": gain("champion", 0.1, 0.11, problem="the challenger newly answers 'owl'")},
        True,
        "accuracy +0.110 (+0.100 to +0.130) against digits v3 on 899 images; lower end at least -0.020",
    ),
    (
        "not_worse_than_champion",
        {},
        {"metrics": {"champion": ["digits v3", "abc"], "comparisons": []}},
        False,
        "no labelled test image that champion and challenger both answer, so nothing can be shown",
    ),
    (
        "better_than_baseline",
        {},
        {"metrics": gain("baseline", -0.01, 0.03)},
        True,
        "accuracy +0.030 (-0.010 to +0.050) against digits v3 (0.910); at least +0.000",
    ),
    (
        "better_than_baseline",
        {"min_gain": 0.05},
        {"metrics": gain("baseline", 0.01, 0.03)},
        False,
        "accuracy +0.030 (+0.010 to +0.050) against digits v3 (0.910); at least +0.050",
    ),
    (
        "calibration",
        {},
        {"metrics": {"ece": 0.104, "images": 899}},
        True,
        "expected calibration error 0.104 on 899 images; limit 0.15",
    ),
    (
        "calibration",
        {"max_ece": 0.05},
        {"metrics": {"ece": 0.104, "images": 899}},
        False,
        "expected calibration error 0.104 on 899 images; limit 0.05",
    ),
    (
        "parity",
        {},
        {"parity": PARITY},
        True,
        "the same class on 899 test images at batch 1, 2, 7, 32; max |Δp| 3.1e-07;"
        " the same class on all, max |Δp| below 1e-04",
    ),
    (
        "parity",
        {},
        {"parity": PARITY | {"disagreements": 1}},
        False,
        "1 disagreements on 899 test images at batch 1, 2, 7, 32; max |Δp| 3.1e-07;"
        " the same class on all, max |Δp| below 1e-04",
    ),
    (
        "parity",
        {"max_delta": 1e-7},
        {"parity": PARITY},
        False,
        "the same class on 899 test images at batch 1, 2, 7, 32; max |Δp| 3.1e-07;"
        " the same class on all, max |Δp| below 1e-07",
    ),
    (
        "parity",
        {},
        {"parity": PARITY | {"step": 0.01, "ties": 2, "jumps": 3, "max_probability_delta": 0.0295}},
        True,
        "the same class, 3 answers fallen to the other side of a threshold (2 ties), on 899 test images at batch"
        " 1, 2, 7, 32; max |Δp| 2.9e-02;"
        " the same class on all but ties, max |Δp| below 1e-04 + 3 × 1.0e-02, what 3 comparisons of the head change"
        " that fall to the other side by the last bit of a float, and above 1e-04 on 1% at most",
    ),
    (
        "parity",
        {},
        {"parity": PARITY | {"step": 0.01, "max_probability_delta": 0.04}},
        False,
        "the same class on 899 test images at batch 1, 2, 7, 32; max |Δp| 4.0e-02;"
        " the same class on all but ties, max |Δp| below 1e-04 + 3 × 1.0e-02, what 3 comparisons of the head change"
        " that fall to the other side by the last bit of a float, and above 1e-04 on 1% at most",
    ),
    (
        "parity",
        {},
        {"parity": PARITY | {"step": 0.33, "jumps": 700, "max_probability_delta": 0.9}},
        False,
        "the same class, 700 answers fallen to the other side of a threshold (0 ties), on 899 test images at batch"
        " 1, 2, 7, 32; max |Δp| 9.0e-01; the same class on all but ties, max |Δp| below 1e-04 + 3 × 3.3e-01, what 3"
        " comparisons of the head change that fall to the other side by the last bit of a float, and above 1e-04 on 1%"
        " at most",
    ),
    (
        "parity",
        {},
        {"parity": PARITY | {"step": 0.01, "disagreements": 1}},
        False,
        "1 disagreements on 899 test images at batch 1, 2, 7, 32; max |Δp| 3.1e-07;"
        " the same class on all but ties, max |Δp| below 1e-04 + 3 × 1.0e-02, what 3 comparisons of the head change"
        " that fall to the other side by the last bit of a float, and above 1e-04 on 1% at most",
    ),
    (
        "latency",
        {},
        {"latency": {"p50_ms": 3.0, "p95_ms": 4.0}},
        True,
        "p50 3.0 ms, p95 4.0 ms at batch 1; p95 up to 1000 ms",
    ),
    (
        "latency",
        {"max_p95_ms": 3.5},
        {"latency": {"p50_ms": 3.0, "p95_ms": 4.0}},
        False,
        "p50 3.0 ms, p95 4.0 ms at batch 1; p95 up to 3.5 ms",
    ),
    (
        "latency",
        {},
        {"latency": {"p50_ms": 30.0, "p95_ms": 40.0, "champion_p50_ms": 10.0}},
        False,
        "p50 30.0 ms, p95 40.0 ms at batch 1; p95 up to 1000 ms, p50 up to 20.0 ms (champion 10.0 ms)",
    ),
    (
        "latency",
        {},
        {"latency": {"p50_ms": 0.9, "p95_ms": 1.0, "champion_p50_ms": 0.1}},
        True,
        "p50 0.9 ms, p95 1.0 ms at batch 1; p95 up to 1000 ms, p50 up to 1.1 ms (champion 0.1 ms)",
    ),
    ("model_size", {}, {"metrics": {"model_size_mb": 44.7}}, True, "44.7 MB; up to 1000 MB"),
    ("model_size", {"max_mb": 40}, {"metrics": {"model_size_mb": 44.7}}, False, "44.7 MB; up to 40 MB"),
    (
        "model_size",
        {},
        {"metrics": {"model_size_mb": 44.7, "champion_size_mb": 0.6}},
        False,
        "44.7 MB; up to 1000 MB and 3 times the champion's 0.6 MB",
    ),
    (
        "no_leakage",
        {},
        {"metrics": {"leaked_images": 0}, "validation": NO_LEAKS},
        True,
        "no test image seen in training",
    ),
    (
        "no_leakage",
        {},
        {"metrics": {"leaked_images": 1, "leaks": ["x.png"]}, "validation": NO_LEAKS},
        False,
        "1 test images seen in training: x.png",
    ),
    (
        "no_leakage",
        {},
        {
            "metrics": {"leaked_images": 0},
            "validation": NO_LEAKS | {"leaks": [leak("lookalike", "test"), leak("lookalike", "val", "c.png")]},
        },
        False,
        "1 test images seen in training: b.png",
    ),
    (
        "no_leakage",
        {},
        {
            "metrics": {"leaked_images": 0},
            "validation": {
                "leaks": [leak("lookalike", "test")],
                "quarantined": [{"domain": "target", "name": "b.png", "reason": "left out"}],
            },
        },
        True,
        "no test image seen in training",
    ),
    (
        "data_valid",
        {},
        {"validation": {"success": True, "checks": [CHECK, CHECK | {"severity": "warning", "passed": False}]}},
        True,
        "2 expectations, 0 critical failed, 1 warning",
    ),
    (
        "data_valid",
        {},
        {"validation": {"success": False, "checks": [CHECK | {"passed": False}]}},
        False,
        "1 expectations, 1 critical failed, 0 warnings: readable",
    ),
    (
        "training_guards",
        {},
        {"training": {"guards": {"frozen_weights_unchanged": True}}},
        True,
        "1 of 1 promises kept",
    ),
    ("training_guards", {}, {"training": {"guards": {}}}, True, "no training by gradient, so no promises"),
    (
        "training_guards",
        {},
        {"training": {"guards": {"frozen_weights_unchanged": False, "finite": True}}},
        False,
        "broken: frozen weights unchanged",
    ),
    (
        "robustness",
        {"min": 0.6},
        {"robustness": ROBUSTNESS},
        True,
        "accuracy 0.700 (0.650–0.740) under mean of all corruptions on 128 test images; floor 0.60",
    ),
    (
        "robustness",
        {"against": "pgd_8", "min": 0.3},
        {"robustness": ROBUSTNESS},
        False,
        "accuracy 0.200 (0.140–0.280) under FGSM and PGD at 8/255 on 128 test images; floor 0.30",
    ),
    (
        "robustness",
        {"min": 0.6},
        {"robustness": ROBUSTNESS, "parity": {"quantisation": {"shipped": True}}},
        True,
        "accuracy 0.700 (0.650–0.740) under mean of all corruptions on 128 test images, of the float32 network by"
        " torch, not of the int8 file that ships; floor 0.60",
    ),
    (
        "robustness",
        {"against": "worst_corruption"},
        {"robustness": ROBUSTNESS},
        False,
        "accuracy 0.100 under the worst corruption on 128 test images; floor 0.50",
    ),
    (
        "slice_gap",
        {},
        {"metrics": {"gaps": [slice_gap("site", 0.3, 0.05)]}},
        True,
        "gap +0.300 (+0.050 to +0.400) between site 'north' and 'south'; lower end at most 0.10",
    ),
    (
        "slice_gap",
        {"max_gap": 0.05},
        {"metrics": {"gaps": [slice_gap("site", 0.3, -0.02), slice_gap("camera", 0.2, 0.12)]}},
        False,
        "gap +0.200 (+0.120 to +0.300) between camera 'north' and 'south'; lower end at most 0.05",
    ),
]


@pytest.mark.parametrize(("gate", "limits", "reports", "passed", "why"), CASES, ids=[case[0] for case in CASES])
def test_says_what_was_seen_and_what_was_asked(gate, limits, reports, passed, why):
    """The finding is the judgement and one sentence that a person can act on."""
    finding = judge(gate, limits, **reports)
    assert (gate, passed, why) == (finding.gate, finding.passed, finding.why)


def test_every_gate_is_tried_here_both_ways():
    """A new gate needs a case in which it passes and one in which it fails."""
    tried = {(gate, passed) for gate, _, _, passed, _ in CASES}
    assert {(gate, passed) for gate in plugins.names(PACKAGE) for passed in (True, False)} == tried


STEPS = PARITY | {"step": 1.0, "jumps": 1, "batches": [{"batch_size": 1, "images": 100}]}
"""One nearest neighbour: an answer that falls to the other side changes a probability by 1."""

AT_THE_LIMIT = [
    ("accuracy_floor", {"min": 0.5}, {"metrics": accuracy(0.5, 0.4, 0.6)}),
    ("worst_class_recall", {"min": 0.5}, {"metrics": {"per_class": [recall("3", 0.5)]}}),
    ("not_worse_than_champion", {"margin": 0.25}, {"metrics": gain("champion", -0.25)}),
    ("better_than_baseline", {"min_gain": 0.25}, {"metrics": gain("baseline", 0.1, 0.25)}),
    ("calibration", {"max_ece": 0.25}, {"metrics": {"ece": 0.25, "images": 899}}),
    ("latency", {"max_p95_ms": 4}, {"latency": {"p50_ms": 3.0, "p95_ms": 4.0}}),
    ("latency", {"max_ratio": 2}, {"latency": {"p50_ms": 20.0, "p95_ms": 40.0, "champion_p50_ms": 10.0}}),
    ("model_size", {"max_mb": 44.5}, {"metrics": {"model_size_mb": 44.5}}),
    ("model_size", {"max_ratio": 3}, {"metrics": {"model_size_mb": 6.0, "champion_size_mb": 2.0}}),
    ("no_leakage", {"max_images": 1}, {"metrics": {"leaked_images": 1}, "validation": NO_LEAKS}),
    ("robustness", {"min": 0.5}, {"robustness": {"images": 128, "corruption_accuracy": 0.5}}),
    ("slice_gap", {"max_gap": 0.25}, {"metrics": {"gaps": [slice_gap("site", 0.3, 0.25)]}}),
    ("parity", {}, {"parity": STEPS}),
]


@pytest.mark.parametrize(("gate", "limits", "reports"), AT_THE_LIMIT, ids=[case[0] for case in AT_THE_LIMIT])
def test_what_meets_the_limit_passes(gate, limits, reports):
    """A floor is reached, a limit is kept to: the figure that is named in params.yaml is itself good enough."""
    assert judge(gate, limits, **reports).passed


JUST_BEYOND = [
    ("model_size", {"max_ratio": 3}, {"metrics": {"model_size_mb": 6.01, "champion_size_mb": 2.0}}),
    ("model_size", {"max_mb": 5}, {"metrics": {"model_size_mb": 5.01, "champion_size_mb": 2.0}}),
    ("latency", {"max_p95_ms": 30}, {"latency": {"p50_ms": 20.0, "p95_ms": 40.0, "champion_p50_ms": 10.0}}),
    ("no_leakage", {"max_images": 1}, {"metrics": {"leaked_images": 2}, "validation": NO_LEAKS}),
    ("parity", {"max_delta": 0.25}, {"parity": PARITY | {"max_probability_delta": 0.25}}),
    ("parity", {}, {"parity": STEPS | {"jumps": 2}}),
]


@pytest.mark.parametrize(("gate", "limits", "reports"), JUST_BEYOND, ids=[case[0] for case in JUST_BEYOND])
def test_what_misses_one_of_two_limits_fails(gate, limits, reports):
    """The other limit is kept to. Parity asks for less than its limit, and for jumps on one answer in a hundred at
    most, also of a head whose single step is a whole probability."""
    assert not judge(gate, limits, **reports).passed


MISSING = {
    "accuracy_floor": "accuracy (no labelled test image)",
    "better_than_baseline": "comparison with a baseline (no labelled test image)",
    "calibration": "calibration error (no labelled test image)",
    "data_valid": "validation report",
    "latency": "measured latency",
    "model_size": "model size",
    "no_leakage": "search for leaks",
    "not_worse_than_champion": "metrics",
    "parity": "image on which file and network were compared",
    "robustness": "accuracy under mean of all corruptions (see explain in params.yaml)",
    "slice_gap": "column with two values among the labelled test images",
    "training_guards": "training record",
    "worst_class_recall": "recall per class (no labelled test image)",
}


@pytest.mark.parametrize("gate", plugins.names(PACKAGE))
def test_missing_evidence_is_named(gate):
    """A gate that fails closed says what it would have to see."""
    finding = judge(gate)
    assert (f"no {MISSING[gate]}", f"no {MISSING[gate]}, so nothing can be shown") == (finding.observed, finding.why)


@pytest.mark.parametrize(
    "reports", [{"metrics": {"leaked_images": 0}}, {"validation": NO_LEAKS}], ids=["by content", "by likeness"]
)
def test_half_a_search_for_leaks_shows_nothing(reports):
    """Leaks are looked for in two ways; with one of them left undone the gate fails closed."""
    finding = judge("no_leakage", **reports)
    assert (False, "no search for leaks, so nothing can be shown") == (finding.passed, finding.why)


def test_a_validation_that_failed_is_not_talked_away():
    """The report's own word counts too, also where every check that it lists has passed."""
    assert not judge("data_valid", validation={"success": False, "checks": [CHECK]}).passed


def test_everything_that_is_wrong_is_named():
    """Not only the first of it."""
    two_checks = [CHECK | {"passed": False}, CHECK | {"name": "labelled", "passed": False}]
    two_guards = {"guards": {"no_divergence": False, "frozen_weights_unchanged": False}}
    two_untested = {"per_class": [recall("3", None, 0), recall("8", None, 0)]}
    two_leaks = {"leaked_images": 2, "leaks": ["x.png", "y.png"]}
    whys = [
        judge("data_valid", validation={"success": False, "checks": two_checks}).why,
        judge("training_guards", training=two_guards).why,
        judge("worst_class_recall", metrics=two_untested).why,
        judge("no_leakage", metrics=two_leaks, validation=NO_LEAKS).why,
    ]
    assert whys == [
        "2 expectations, 2 critical failed, 0 warnings: readable, labelled",
        "broken: frozen weights unchanged, no divergence",
        "no labelled test image of 3, 8, so nothing can be shown",
        "2 test images seen in training: x.png, y.png",
    ]


def test_what_was_asked_for_stands_beside_what_was_seen():
    """The report's table shows both, also where the sentence does not repeat them."""
    other_classes = judge("not_worse_than_champion", metrics=gain("champion", 0.1, problem="it newly answers 'owl'"))
    asked = [
        judge("training_guards", training={"guards": {}}).required,
        judge("data_valid", validation={"success": True, "checks": [CHECK]}).required,
        judge("no_leakage", metrics={"leaked_images": 0}, validation=NO_LEAKS).required,
        judge("no_leakage", {"max_images": 1200}, metrics={"leaked_images": 0}, validation=NO_LEAKS).required,
        other_classes.required,
    ]
    assert asked == ["all kept", "no critical expectation failed", "none", "at most 1,200", "the same classes"]
    assert judge("not_worse_than_champion", metrics={"champion": []}).observed == "no champion"


def test_a_head_without_steps_has_no_thresholds():
    """Parity speaks of answers that fell to the other side only where the head compares."""
    assert "threshold" not in judge("parity", parity=PARITY | {"jumps": 3}).why


def test_half_an_interval_is_none():
    """A figure whose bounds were not both measured is told alone."""
    half = {name: value for name, value in ROBUSTNESS.items() if name != "corruption_accuracy_high"}
    assert "accuracy 0.700 under mean of all corruptions" in judge("robustness", robustness=half).why
