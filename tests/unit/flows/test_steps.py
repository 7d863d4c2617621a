"""Trying again, and putting back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flows import inline, steps
from flows.inline import Calls
from flows.steps import STEPS, Step, attempt
from flows.undoing import reason_of
from pipeline.core.errors import RegistryError, ServiceError


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    """The pauses that were made, none of them real."""
    pauses = []
    monkeypatch.setattr(steps.time, "sleep", pauses.append)
    return pauses


def failing(times, error):
    """A function that fails so often, then returns how often it was called."""
    calls = []

    def do(*arguments):
        calls.append(arguments)
        if len(calls) <= times:
            raise error
        return len(calls)

    return do


@pytest.fixture
def run(tmp_path):
    lines = []
    runner = Calls(tmp_path, lines.append)
    runner.lines = lines
    runner.__dict__["settings"] = "settings"
    return runner


def test_a_service_in_a_bad_moment_is_asked_again(slept):
    """After one second, then two; each failure is said."""
    said = []
    step = Step("record_run", "", failing(2, ServiceError("no answer")), attempts=3)
    assert 3 == attempt(step, say=said.append)
    assert [1.0, 2.0] == slept
    assert "record_run: attempt 1 of 3 failed, again in 1 s: no answer" == said[0]


def test_the_last_failure_is_raised():
    """Three attempts are three."""
    with pytest.raises(ServiceError):
        attempt(Step("announce", "", failing(3, ServiceError("no answer")), attempts=3), say=print)


def test_what_a_second_attempt_cannot_mend_is_raised_at_once(slept):
    """A moved alias stays moved."""
    error = RegistryError(expected="v1", found="v2", where="the registry", remedy="Run again.")
    with pytest.raises(RegistryError):
        attempt(Step("promote", "", failing(1, error), attempts=3), say=print)
    assert [] == slept


def do_all(run, *rows):
    """The steps, in one transaction."""
    with run.transaction():
        for step in rows:
            run.step(step)


def test_a_failure_undoes_the_steps_before_it_last_first(run):
    """Each undo gets what its step returned, and the reason."""
    undone = []
    rows = [
        Step(name, "", lambda *_, name=name: f"{name}'s result", undo=lambda *arguments: undone.append(arguments))
        for name in ("register", "promote", "publish")
    ]
    with pytest.raises(ServiceError):
        do_all(run, *rows, Step("conclude", "", failing(9, ServiceError("disk full\nmore"))))
    names = ["publish", "promote", "register"]
    assert [(run.workspace, "settings", f"{name}'s result", "disk full") for name in names] == undone
    assert [f"undone: {name}" for name in names] == run.lines


def test_one_undo_that_fails_does_not_keep_the_others_from_it(run):
    """It is said, loudly, and the first error is the one that is raised."""
    undone = []
    register = Step("register", "", lambda *_: 1, undo=lambda *_: undone.append("register"))
    promote = Step("promote", "", lambda *_: 2, undo=failing(9, ServiceError("no answer")))
    with pytest.raises(ZeroDivisionError):
        do_all(run, register, promote, Step("publish", "", failing(9, ZeroDivisionError())))
    assert ["register"] == undone
    assert "NOT undone: promote: no answer" == run.lines[0]


def test_steps_before_the_transaction_are_not_undone(run):
    """Only what was done inside it."""
    undone = []
    run.step(Step("record_run", "", lambda *_: 1, undo=lambda *_: undone.append(1)))
    with pytest.raises(ZeroDivisionError), run.transaction():
        raise ZeroDivisionError
    assert [] == undone


def test_an_interrupted_transaction_is_undone_too(run):
    """Ctrl-C between promote and publish leaves no half promotion."""
    undone = []
    promote = Step("promote", "", lambda *_: 1, undo=lambda *arguments: undone.append(arguments[-1]))
    with pytest.raises(KeyboardInterrupt):
        do_all(run, promote, Step("publish", "", failing(9, KeyboardInterrupt())))
    assert ["KeyboardInterrupt"] == undone


def test_a_reason_is_one_line():
    """It becomes a tag."""
    assert "first" == reason_of(ServiceError("first\nsecond"))
    assert "KeyboardInterrupt" == reason_of(KeyboardInterrupt())


def test_what_changes_the_world_for_others_can_be_undone():
    """register, promote and publish: all that somebody else could see before the end."""
    assert {"register", "promote", "publish"} == {step.name for step in STEPS if step.undo}


def test_inline_knows_no_prefect():
    """``--inline`` is for machines where Prefect is the problem."""
    code = f"import sys, {inline.__name__}; sys.exit('prefect' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code]).returncode
