"""A retraining from start to end, told once. How its parts are run (plain calls, Prefect tasks) is the runner's affair,
so that ``graftline run``, ``graftline run --inline`` and a deployment cannot drift apart.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from flows.live import curves
from flows.steps import (
    ANNOUNCE,
    CONCLUDE,
    FINISH_RUN,
    HOLD,
    OPEN_RUN,
    PIN_CHAMPION,
    PIN_LAST_DATA,
    PROMOTE,
    PUBLISH,
    RECORD_RUN,
    RECOVER,
    REGISTER,
    REPORT,
    SETTLED,
    SMOKE_TEST,
    Step,
)
from pipeline import params
from pipeline.core.errors import ChampionMovedError, GraftlineError, StoreError
from pipeline.core.lock import workspace_lock
from pipeline.graph import dvcfile, preflight, torn
from pipeline.graph.table import STAGES
from pipeline.graph.through_dvc import Dvc, Ran
from pipeline.params import Settings
from pipeline.release import decide, steps
from pipeline.release.decide import Outcome
from pipeline.release.pin import read_pin
from pipeline.reporting import report
from pipeline.scale import engine as scale

GOES_ON = (
    "What the stages have made is kept and nothing is promoted by halves: the next graftline run finishes it, with "
    "nothing computed again."
)
EVALUATE_AGAIN = 3
"""So often a run that was overtaken by another workspace's promotion compares with the new champion."""


Shown = Literal["evidence", "report"]
"""What is about to be decided on; and the page that tells how it was."""


class Runner(abc.ABC):
    """Runs the parts of the sequence in one workspace, and says what happens.

    ``assignments`` are ``key=value`` pairs for params.yaml, written there once the workspace is ours.
    """

    def __init__(self, workspace: Path, emit: Callable[[str], None], assignments: Sequence[str] = ()) -> None:
        self.workspace = workspace.resolve()
        self.emit = emit
        self.assignments = list(assignments)

    @cached_property
    def settings(self) -> Settings:
        """Read when the workspace is ours, then the same for the whole run."""
        return params.load(self.workspace)

    @cached_property
    def dvc(self) -> Dvc:
        """One for the whole run: what it knows is of a workspace that is ours."""
        return Dvc(self.workspace)

    def say(self, line: str) -> None:
        """One line for people."""
        self.emit(line)

    @abc.abstractmethod
    def stage(self, name: str) -> Ran:
        """Bring a stage up to date."""

    @abc.abstractmethod
    def step(self, step: Step, *arguments: Any) -> Any:
        """Do a step, with the workspace and the settings before its arguments."""

    @abc.abstractmethod
    def show(self, what: Shown) -> None:
        """Show it where people look at runs. What fails there is said, and the run goes on."""

    @abc.abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """If anything in the block fails, undo the steps that were done in it, last first."""


def retrain(run: Runner) -> Outcome:
    """Bring every stage up to date, decide on the result, tell people. A failed gate is a hold, not a failure.

    Raises:
        InputError: the user's input is not usable; the stage that found out is named before.
        BusyError: another run holds the workspace.
        StageError, ServiceError: something broke. Nothing is promoted then, and the next run goes on from here.
    """
    if not (run.workspace / params.FILE).is_file():
        raise params.no_workspace(run.workspace)  # before a lock makes its folder there
    with workspace_lock(run.workspace, emit=run.say), run.dvc:
        record = _Record(run)
        outcome = None
        _prepare(run)
        try:
            _bring_up_to_date(run, record)
            outcome = _settle(run, record)
            _report(run, outcome, fresh=record.id is not None)
        except StoreError as error:
            raise StoreError(f"{error}\n  {GOES_ON}") from error
        finally:
            record.finish(outcome)
    run.say(outcome.line)
    if outcome.failed:
        run.say(f"  {outcome.reason}")
    _announce(run, outcome)
    return outcome


def bring_up_to_date(run: Runner, last: str) -> None:
    """Only the stages up to and including ``last``: nothing is tracked, registered or released.

    What the last run left for comparison is pinned as in :func:`retrain`, or the next retraining would find fresh
    stages and compare with the run before the last.

    Raises:
        InputError, BusyError, StageError: as :func:`retrain`.
    """
    if not (run.workspace / params.FILE).is_file():
        raise params.no_workspace(run.workspace)
    with workspace_lock(run.workspace, emit=run.say), run.dvc:
        _put_in_step(run)
        for stage in STAGES[: [stage.name for stage in STAGES].index(last) + 1]:
            _pin_before(run, stage.name)
            _say_ran(run, run.stage(stage.name))


def _prepare(run: Runner) -> None:
    """Params and graph in step, and nothing half-done from a run that was killed; before hours of training, whatever
    would fail after them."""
    if run.assignments:
        for change in params.assign(run.workspace, run.assignments):
            run.say(f"set {change}")
    preflight.check(run.workspace, run.settings)
    scale.check(run.settings.scale)
    steps.check_webhook(run.settings)
    steps.check_signing_key(run.workspace, run.settings)
    _put_in_step(run)
    for line in run.step(RECOVER):
        run.say(line)


def _put_in_step(run: Runner) -> None:
    """DVC's files, the graph, and the pins: an upgrade of the package may ask for one that there was not before."""
    for line in torn.mend(run.workspace):
        run.say(line)
    if dvcfile.write(run.workspace, run.settings):
        run.say("dvc.yaml brought in step with params.yaml and the installed code")
    steps.ensure_pins(run.workspace)


def _bring_up_to_date(run: Runner, record: _Record) -> None:
    for stage in STAGES:
        _pin_before(run, stage.name)
        with _watched(run, record) if stage.name == "train" else nullcontext():
            _say_ran(run, run.stage(stage.name))


def _pin_before(run: Runner, stage: str) -> None:
    """Write down what changes by itself, right before the stages that read it."""
    if stage == "ingest" and run.dvc.is_stale("ingest"):
        run.step(PIN_LAST_DATA)
    if stage == "evaluate":
        before = read_pin(run.workspace)
        run.step(PIN_CHAMPION)
        if read_pin(run.workspace) != before:
            run.dvc.moved()


def _watched(run: Runner, record: _Record) -> AbstractContextManager[None]:
    """Training's curves go to MLflow while it trains; without training there is no run to open for them. A store that
    does not answer costs the view of them and no training."""
    if not run.dvc.is_stale("train"):
        return nullcontext()
    try:
        return curves(run.workspace, run.settings, record.open())
    except StoreError as error:
        run.say(f"Training is not shown in MLflow: {error}")
        return nullcontext()


def _say_ran(run: Runner, ran: Ran) -> None:
    took = f"{ran.seconds:.1f} s" if ran.fresh else "unchanged"
    run.say(f"{ran.stage:<9} {ran.line}  ({took})")


def _settle(run: Runner, record: _Record) -> Outcome:
    """Decide, and where another workspace was faster, evaluate against its champion and decide again."""
    for _ in range(EVALUATE_AGAIN):
        try:
            return run.step(SETTLED) or _decide(run, record)
        except ChampionMovedError as error:
            run.say(f"another champion meanwhile ({error.found} instead of {error.expected}): evaluated again")
            _bring_up_to_date(run, record)
    return run.step(SETTLED) or _decide(run, record)


def _decide(run: Runner, record: _Record) -> Outcome:
    """Register what the stages made, and promote it if the verdict passed: the whole of that, or nothing."""
    run.show("evidence")
    run.step(RECORD_RUN, record.open())
    with run.transaction():
        version = run.step(REGISTER, record.id)
        if not decide.judged(run.workspace).verdict.passed:
            return run.step(HOLD, version)
        run.step(SMOKE_TEST, version)
        promotion = run.step(PROMOTE, version)
        run.step(PUBLISH, version)
        return run.step(CONCLUDE, promotion)


def _report(run: Runner, outcome: Outcome, *, fresh: bool) -> None:
    """The page says how it ended. Where nothing changed, the page of the run that decided stays."""
    if not fresh and (run.workspace / report.PATH).is_file():
        return
    try:
        run.step(REPORT, outcome.kind)
    except Exception as error:  # noqa: BLE001  # whatever a page may stumble over: the decision stands
        run.say(f"No report was written: {type(error).__name__}: {error}")
    else:
        run.show("report")


def _announce(run: Runner, outcome: Outcome) -> None:
    if outcome.kind == "unchanged":
        return
    try:
        run.step(ANNOUNCE, outcome)
    except GraftlineError as error:
        run.say(f"Nobody was told: {error}")  # the decision stands


class _Record:
    """The MLflow run of this flow run: opened when there is something to record, closed with the outcome."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._wanted_since_s: float | None = None
        self.id: str | None = None

    def open(self) -> str:
        self._wanted_since_s = self._wanted_since_s or time.time()
        if self.id is None:
            self.id = self._run.step(OPEN_RUN)
        return self.id

    def finish(self, outcome: Outcome | None) -> None:
        """Also when the flow failed; what happened there must not be hidden by a tracking server's trouble."""
        if self._wanted_since_s is None:
            return
        if self.id is None:
            self._keep(outcome, self._wanted_since_s, "it could not be opened")
            return
        try:
            self._run.step(FINISH_RUN, self.id, outcome)
        except GraftlineError as error:
            self._keep(outcome, self._wanted_since_s, str(error))

    def _keep(self, outcome: Outcome | None, started_s: float, reason: str) -> None:
        run = self._run
        try:
            place = steps.keep_record(run.workspace, run.settings, self.id, outcome, started_s)
        except OSError as error:
            run.say(f"The MLflow run {self.id} was left open ({reason}), and its record could not be kept: {error}")
        else:
            where = place.relative_to(run.workspace)
            run.say(f"The record of this run waits in {where} and is sent by the next run: {reason}")
