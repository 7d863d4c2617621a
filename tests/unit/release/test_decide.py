"""From a verdict to its identity, and to the closing line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import WorkspaceError
from pipeline.gates._base import Finding, Verdict
from pipeline.release import decide


def finding(gate: str, passed: bool, observed: str = "0.9") -> Finding:
    return Finding(gate=gate, passed=passed, observed=observed, required="0.8", why=f"{gate} is {observed}")


def judge(workspace: Path, *findings: Finding, model: bytes = b"model") -> decide.Judged:
    (workspace / "models").mkdir(exist_ok=True)
    (workspace / "models/model.onnx").write_bytes(model)
    verdict = Verdict(passed=all(finding.passed for finding in findings), findings=list(findings))
    verdict.save(workspace / "reports/verdict.json")
    return decide.judged(workspace)


def test_digest_ignores_what_was_measured(tmp_path: Path) -> None:
    """Another latency and another order of gates is the same judgement; another model or another answer is not."""
    first = judge(tmp_path, finding("latency", True, "1 ms"), finding("floor", True)).digest
    assert first == judge(tmp_path, finding("floor", True), finding("latency", True, "2 ms")).digest
    assert first == decide.verdict_digest(tmp_path)
    others = [
        judge(tmp_path, finding("latency", False), finding("floor", True)).digest,
        judge(tmp_path, finding("latency", True)).digest,
        judge(tmp_path, finding("latency", True), finding("floor", True), model=b"another").digest,
    ]
    assert 4 == len({first, *others})


def test_reason_is_the_gates_own(tmp_path: Path) -> None:
    """A hold is explained by the gates that failed."""
    assert "all 1 gates passed" == judge(tmp_path, finding("floor", True)).reason
    assert "floor: floor is 0.1" == judge(tmp_path, finding("floor", False, "0.1"), finding("parity", True)).reason


def test_nothing_to_decide_yet(tmp_path: Path) -> None:
    """Without a model the message says which file is missing and what makes it."""
    with pytest.raises(WorkspaceError) as caught:
        decide.judged(tmp_path)
    assert ("no models/model.onnx", True) == (caught.value.found, "graftline run" in caught.value.remedy)


@pytest.mark.parametrize(
    ("kind", "fields", "line"),
    [
        ("promoted", {}, "Gates: 2 passed, 0 failed · champion digits v1 · handoff/v1"),
        ("unchanged", {}, "Gates: 2 passed, 0 failed · nothing changed · champion digits v1 · handoff/v1"),
        (
            "held",
            {"version": 2, "failed": ("floor",), "passed": ("parity",)},
            "Gates: 1 passed, 1 failed (floor) · held digits v2 · champion digits v1 · handoff/v1",
        ),
        (
            "held",
            {"champion": None, "handoff": None, "failed": ("floor",), "passed": ()},
            "Gates: 0 passed, 1 failed (floor) · held digits v1 · no champion yet",
        ),
    ],
)
def test_closing_line(kind: decide.Kind, fields: dict[str, Any], line: str) -> None:
    """One line says how it ended, who is champion and where the bundle is."""
    usual = {"version": 1, "champion": 1, "handoff": "handoff/v1", "passed": ("floor", "parity"), "failed": ()}
    outcome = decide.Outcome(kind=kind, model="digits", previous=None, reason="", **{**usual, **fields})
    assert line == outcome.line
    assert line == json.loads(outcome.as_json())["line"]
