"""What holds for every gate, also for one that somebody adds tomorrow."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from pipeline.core import plugins
from pipeline.gates._base import PACKAGE, Evidence, Finding, GateParams, OptionalGateParams, Verdict, gates_params

GATES = plugins.names(PACKAGE)
EMPTY_REPORTS = [Evidence(), Evidence(metrics={"images": 0, "accuracy": None, "comparisons": [], "per_class": []})]


@pytest.fixture(params=GATES)
def gate(request):
    return plugins.load(PACKAGE, request.param)


def test_has_limits_a_summary_and_a_check(gate):
    """``Params`` with defaults, one line of ``SUMMARY``, and a docstring that says what is judged."""
    assert issubclass(gate.Params, GateParams)
    assert gate.Params().enabled is not issubclass(gate.Params, OptionalGateParams)
    assert gate.SUMMARY
    assert "\n" not in gate.SUMMARY
    assert not gate.SUMMARY.endswith(".")
    assert gate.__doc__
    assert gate.check.__doc__


@pytest.mark.parametrize("evidence", EMPTY_REPORTS, ids=["no reports", "nothing scored"])
def test_fails_closed(gate, evidence):
    """Without its evidence a gate does not pass and does not raise; it says what is missing."""
    finding = gate.check(evidence, gate.Params())
    assert isinstance(finding, Finding)
    assert not finding.passed
    assert finding.why.startswith("no ")
    assert finding.why.endswith("so nothing can be shown")


def test_findings_carry_the_files_name(gate):
    assert gate.__name__.rpartition(".")[2] == gate.check(Evidence(), gate.Params()).gate


def test_every_limit_is_described(gate):
    """Descriptions become the hints of editors and the documentation."""
    assert [] == [name for name, field in gate.Params.model_fields.items() if not field.description]


def test_a_bare_false_turns_a_gate_off(gate):
    assert not gate.Params.model_validate(False).enabled


def test_a_bare_true_and_any_limit_turn_a_gate_on(gate):
    """An optional gate that is given a limit has been asked for; false beside a limit still turns it off."""
    limit = {name: field.default for name, field in gate.Params.model_fields.items() if name != "enabled"}
    assert gate.Params.model_validate(True).enabled
    assert not limit or gate.Params.model_validate(limit).enabled
    assert not gate.Params.model_validate({**limit, "enabled": False}).enabled


def test_gates_are_chosen_by_their_file_name():
    """One may be given limits without naming the others; editors are shown what each demands."""
    gates = gates_params()
    assert ("Gates", "Limits of each gate, by its name.") == (gates.__name__, gates.__doc__)
    summaries = {name: plugins.load(PACKAGE, name).SUMMARY for name in GATES}
    assert summaries == {name: field.description for name, field in gates.model_fields.items()}
    assert set(GATES) == set(gates.model_fields)
    assert 0.9 == gates.model_validate({"accuracy_floor": {"min": 0.9}}).accuracy_floor.min


def test_a_verdict_knows_which_gates_failed():
    """In the order in which they were asked."""
    findings = [
        Finding(gate=name, passed=passed, observed="", required="", why="")
        for name, passed in (("latency", False), ("parity", True), ("model_size", False))
    ]
    assert ["latency", "model_size"] == [finding.gate for finding in Verdict(passed=False, findings=findings).failed]


def test_an_unknown_gate_or_limit_is_an_error_with_its_place():
    """A typo is never ignored; the location leads to it."""
    gates = gates_params()
    with pytest.raises(ValidationError) as problem:
        gates.model_validate({"acuracy_floor": {}, "latency": {"max_p95": 3}})
    assert [("acuracy_floor",), ("latency", "max_p95")] == sorted(
        (error["loc"] for error in problem.value.errors()), key=str
    )


def test_gates_import_nothing_heavy():
    """Params are checked on every command: no gate may load torch, pandas or the like."""
    code = (
        "import sys; import pipeline.stages.gate, pipeline.stages.export, pipeline.stages.evaluate,"
        " pipeline.stages.package;"
        "print([m for m in ('torch', 'pandas', 'numpy', 'onnx', 'onnxruntime', 'sklearn') if m in sys.modules])"
    )
    assert "[]\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
