"""One Prefect task per row: of the stage graph, and of the table of steps.

Prefect's cache is off everywhere: DVC alone decides whether a stage must run, and its ``INPUTS`` policy would hash the
text of a path, not the file. Retries are in :func:`flows.steps.attempt`, where the reason is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.transactions import Transaction, transaction

from flows import artifacts
from flows.interrupts import laid_bare
from flows.sequence import Runner, Shown
from flows.steps import STEPS, Step, attempt
from flows.undoing import reason_of, undo
from pipeline.graph.table import STAGES
from pipeline.graph.through_dvc import Ran


def _task(name: str, summary: str, work: Callable[..., Any]) -> Task[..., Any]:
    """Without tags: for each tag of a task Prefect asks the server for a slot, and now and then waits two seconds."""
    return Task(
        work,
        name=name,
        task_run_name=name,
        description=summary,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=0,
    )


def _stage(run: Runner, name: str) -> Ran:
    return run.dvc.reproduce(name, emit=run.say)


def _step(run: Tasks, step: Step, done: list[Any], *arguments: Any) -> Any:
    try:
        result = attempt(step, run.workspace, run.settings, *arguments, say=run.say)
    except BaseException as error:
        run.reason = reason_of(error)  # Prefect undoes the steps before this one on the way out, and tells them nothing
        raise
    done.append(result)
    return result


STAGE_TASKS = {stage.name: _task(stage.name, stage.summary, _stage) for stage in STAGES}
STEP_TASKS = {step.name: _task(step.name, step.summary, _step) for step in STEPS}


def _unheard(line: str) -> None:
    """Where no terminal listens, as in a worker, the lines are in the run's log."""


_LISTENER: ContextVar[Callable[[str], None]] = ContextVar("listener", default=_unheard)
_ASSIGNMENTS: ContextVar[Sequence[str]] = ContextVar("assignments", default=())


@contextlib.contextmanager
def called_with(emit: Callable[[str], None], assignments: Sequence[str]) -> Iterator[None]:
    """Inside the block ``emit`` gets every line, besides the log, and ``assignments`` go into params.yaml. Not
    parameters of the flow, because those travel to the server (an assignment may hold a secret); not in the flow's
    module, because Prefect pickles what a served flow refers to there."""
    tokens = _LISTENER.set(emit), _ASSIGNMENTS.set(assignments)
    try:
        yield
    finally:
        _LISTENER.reset(tokens[0])
        _ASSIGNMENTS.reset(tokens[1])


class Tasks(Runner):
    """Every part a Prefect task; only for use inside a flow."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(workspace, _LISTENER.get(), _ASSIGNMENTS.get())
        self.reason = "the run was stopped"

    def say(self, line: str) -> None:
        get_run_logger().info(line)
        super().say(line)

    def stage(self, name: str) -> Ran:
        with laid_bare():
            ran: Ran = STAGE_TASKS[name](self, name)  # type: ignore[assignment]  # Prefect's overloads: no coroutine
        return ran

    def step(self, step: Step, *arguments: Any) -> Any:
        done: list[Any] = []
        task = STEP_TASKS[step.name].with_options()  # a copy: what is to be undone belongs to this call
        if step.undo:
            task.on_rollback(partial(self._undo, step, done))
        with laid_bare():
            return task(self, step, done, *arguments)

    def _undo(self, step: Step, done: list[Any], _: Transaction) -> None:
        undo(self, step, done[0], self.reason)

    def transaction(self) -> AbstractContextManager[Any]:
        return transaction()

    def show(self, what: Shown) -> None:
        try:
            artifacts.SHOWN[what](self.workspace, self.settings)
        except Exception as error:  # noqa: BLE001  # a copy for people to look at: the run stands without it
            self.say(f"Not shown in Prefect: {type(error).__name__}: {error}")
