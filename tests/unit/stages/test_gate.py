"""The gate stage: a verdict, not an exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.core import plugins
from pipeline.core.context import Context
from pipeline.gates._base import PACKAGE, Verdict
from pipeline.stages import gate

CLASS = {"label": "cat", "images": 40, "recall": 0.9, "recall_low": 0.8, "recall_high": 0.95}
BASELINE = {
    "against": "baseline",
    "name": "nearest class mean",
    "images": 80,
    "accuracy": 0.8,
    "gain": 0.1,
    "gain_low": 0.05,
    "gain_high": 0.15,
    "problem": None,
}


class Report(BaseModel):
    """Any report; the stage asks nothing of it but its content."""

    content: dict[str, Any]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self.content


def reports(**metrics: Any) -> dict[str, Report]:
    """Evidence that passes every gate, but for what ``metrics`` changes."""
    figures = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94, "images": 80, "ece": 0.05}
    figures |= {
        "model_size_mb": 1.0,
        "leaked_images": 0,
        "champion": [],
        "per_class": [CLASS],
        "comparisons": [BASELINE],
    }
    batch = {"batch_size": 1}
    contents = {
        "metrics": figures | metrics,
        "latency": {"p50_ms": 1.0, "p95_ms": 2.0},
        "parity": {
            "images": 80,
            "split": "test",
            "disagreements": 0,
            "max_probability_delta": 1e-7,
            "batches": [batch],
        },
        "validation": {
            "success": True,
            "checks": [{"name": "readable", "severity": "critical", "passed": True}],
            "leaks": [],
            "quarantined": [],
        },
        "training": {"guards": {}},
        "robustness": {"images": 80, "corruption_accuracy": 0.7},
    }
    return {name: Report(content=content) for name, content in contents.items()}


def verdict(params: gate.Params, **metrics: Any) -> tuple[str, Verdict]:
    result = gate.run(params, Context(Path(), seed=0), **reports(**metrics))
    return result.line, result.outputs["verdict"]


OPTIONAL = ["robustness", "slice_gap"]


def test_all_gates_but_the_optional_ones_are_on_by_default():
    """Sound evidence passes all of them, and each has its finding; the optional ones are not counted as turned off."""
    line, judged = verdict(gate.Params())
    usual = [name for name in plugins.names(PACKAGE) if name not in OPTIONAL]
    assert f"{len(usual)} passed, 0 failed" == line
    assert judged.passed
    assert usual == [finding.gate for finding in judged.findings]
    assert ([], OPTIONAL) == (judged.off, judged.not_asked)


def test_an_optional_gate_judges_once_it_is_asked_for():
    """By a bare true, or by a limit."""
    line, judged = verdict(gate.Params(gates={"robustness": {"min": 0.8}}))
    assert line.endswith("1 failed (robustness)")
    assert ["slice_gap"] == judged.not_asked
    assert verdict(gate.Params(gates={"robustness": True}))[1].passed


def test_one_failed_gate_fails_the_model_and_is_named():
    line, judged = verdict(gate.Params(), accuracy=0.5)
    assert line.endswith("1 failed (accuracy_floor)")
    assert not judged.passed
    assert ["accuracy_floor"] == [finding.gate for finding in judged.failed]


def test_a_gate_that_is_off_does_not_judge_but_is_listed():
    line, judged = verdict(gate.Params(gates={"accuracy_floor": False}), accuracy=0.5)
    assert line.endswith("0 failed, 1 off")
    assert (True, ["accuracy_floor"]) == (judged.passed, judged.off)


def test_limits_come_from_params():
    _, judged = verdict(gate.Params(gates={"accuracy_floor": {"min": 0.95}}))
    assert ["accuracy_floor"] == [finding.gate for finding in judged.failed]


def test_an_unknown_gate_is_refused():
    """Its place is in the error, for the message that names the nearest one."""
    with pytest.raises(ValidationError) as problem:
        gate.Params(gates={"acuracy_floor": {"min": 0.9}})
    assert [("gates", "acuracy_floor")] == [error["loc"] for error in problem.value.errors()]


def test_the_verdict_survives_the_file(tmp_path):
    _, judged = verdict(gate.Params(), accuracy=0.5)
    judged.save(tmp_path / "verdict.json")
    assert judged == Verdict.load(tmp_path / "verdict.json")
