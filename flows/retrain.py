"""The retraining flow. ``graftline run`` calls it, ``graftline serve`` schedules it, prefect.yaml deploys it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import sequence
from flows.interrupts import laid_bare
from flows.tasks import Tasks, called_with
from pipeline.release.decide import Outcome


def _name() -> str:
    workspace = Path(flow_run.parameters["workspace"]).resolve().name
    return f"{workspace} {datetime.now():%Y-%m-%d %H:%M:%S}"


@flow(name="retrain", flow_run_name=_name, validate_parameters=True, persist_result=False)
def retrain(workspace: Path = Path()) -> State[Outcome]:
    """Retrain a workspace's model: bring every stage up to date, judge the result, promote or hold it, hand it off.

    Args:
        workspace: the folder with params.yaml; relative to where the flow runs.
    """
    outcome = sequence.retrain(Tasks(workspace))
    return Completed(name=outcome.kind.capitalize(), message=outcome.line, data=outcome)


def call(workspace: Path, emit: Callable[[str], None], assignments: Sequence[str] = ()) -> Outcome:
    """Run the flow here and return its outcome, or raise what it raised."""
    with laid_bare(), called_with(emit, assignments):
        return cast(Outcome, retrain(workspace, return_state=True).result())
