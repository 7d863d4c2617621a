"""The steps beside the stages, as a table: what each does to the world, how it is undone, how often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.core.errors import ServiceError
from pipeline.release import steps
from pipeline.reporting import report

FIRST_DELAY_S = 1.0
"""Before the second attempt; doubled before each further one."""


class Step(NamedTuple):
    """``do(workspace, settings, *arguments)``; ``undo(workspace, settings, result, reason)`` puts it back."""

    name: str
    summary: str
    do: Callable[..., Any]
    undo: Callable[..., Any] | None = None
    attempts: int = 1
    """More than one where a server or a network may be in a bad moment."""


RECOVER = Step("recover", "finish or clear up what a killed run has left", steps.recover, attempts=3)
PIN_LAST_DATA = Step("pin_last_data", "keep what the last data were like, to compare with", steps.pin_last_data)
PIN_CHAMPION = Step("pin_champion", "pin the champion to compare with", steps.pin_champion, attempts=3)
OPEN_RUN = Step("open_run", "open the MLflow run", steps.start_run, attempts=3)
RECORD_RUN = Step("record_run", "log params, metrics, reports, digests and the bundle", steps.record_run, attempts=3)
FINISH_RUN = Step("finish_run", "close the MLflow run with its outcome", steps.finish_run, attempts=3)
SETTLED = Step("settled", "was exactly this decided before?", steps.settled, attempts=3)
REGISTER = Step("register", "register the model as challenger", steps.register, undo=steps.withdraw, attempts=3)
HOLD = Step("hold", "keep the challenger unpromoted, with the reason", steps.hold, attempts=3)
SMOKE_TEST = Step("smoke_test", "load by alias and repeat the golden answers", steps.smoke_test, attempts=3)
PROMOTE = Step(
    "promote",
    "move the aliases, if the champion is still the one compared with",
    steps.promote,
    undo=lambda workspace, settings, promotion, reason: steps.undo_promote(workspace, settings, promotion),
)
PUBLISH = Step(
    "publish",
    "hand the bundle off and move `current` to it",
    steps.publish,
    undo=lambda workspace, settings, published, reason: steps.undo_publish(workspace, settings, published),
)
CONCLUDE = Step("conclude", "write the promotion into the history", steps.conclude)
REPORT = Step("report", "write the page about this run", report.write)
ANNOUNCE = Step("announce", "tell the webhook", steps.announce, attempts=3)

STEPS = (
    RECOVER,
    PIN_LAST_DATA,
    PIN_CHAMPION,
    OPEN_RUN,
    RECORD_RUN,
    FINISH_RUN,
    SETTLED,
    REGISTER,
    HOLD,
    SMOKE_TEST,
    PROMOTE,
    PUBLISH,
    CONCLUDE,
    REPORT,
    ANNOUNCE,
)


def attempt(step: Step, *arguments: Any, say: Callable[[str], None]) -> Any:
    """Do the step, again after a while where a service failed and attempts are left.

    Here and not in Prefect's ``retries``, because a task inside a ``transaction`` that fails rolls back its neighbours
    *before* Prefect tries it again (seen with 3.8.8): the retry would promote what has just been withdrawn.
    """
    for number in range(1, step.attempts):
        try:
            return step.do(*arguments)
        except ServiceError as error:
            delay_s = FIRST_DELAY_S * 2 ** (number - 1)
            say(f"{step.name}: attempt {number} of {step.attempts} failed, again in {delay_s:.0f} s: {error}")
            time.sleep(delay_s)
    return step.do(*arguments)
