"""Puts back what a step did when a later one failed; both runners do it the same way."""

from __future__ import annotations

from typing import Any

from flows.sequence import Runner
from flows.steps import Step
from pipeline.core.errors import GraftlineError


def undo(run: Runner, step: Step, result: Any, reason: str) -> None:
    """Undo one step, and say so. One that cannot be undone is reported and does not keep the others from it."""
    if step.undo is None:
        return
    try:
        step.undo(run.workspace, run.settings, result, reason)
        run.say(f"undone: {step.name}")
    except GraftlineError as error:
        run.say(f"NOT undone: {step.name}: {error}")


def reason_of(error: BaseException) -> str:
    """The first line of what happened, for a tag."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
