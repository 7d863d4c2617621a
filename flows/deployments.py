"""``graftline serve``: the flow on a schedule, run by this process, with nothing else to set up."""

from __future__ import annotations

from pathlib import Path

from flows import prefect_server
from pipeline import params
from pipeline.core.errors import ParamsError


def serve(workspace: Path, cron: str) -> None:
    """Schedule the flow and stay to run it; Ctrl-C ends it and pauses the schedule.

    Each run is a process of its own. One at a time: a run that comes due meanwhile waits, and then mostly finds
    nothing to do. The limit is this process's, not the server's: a slot there stays taken for minutes when the run
    that held it was killed.

    Raises:
        ParamsError: ``cron`` is not a cron expression.
    """
    settings = params.load(workspace)
    _check(cron)
    with prefect_server.reachable(workspace, schedules=True):
        import prefect
        from prefect.deployments.runner import EntrypointType, RunnerDeployment

        from flows.retrain import retrain

        deployment = retrain.to_deployment(
            name=f"{settings.model}-served",  # not the name in prefect.yaml: the two may share a server
            cron=cron,
            parameters={"workspace": str(workspace.resolve())},
            tags=["graftline"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        assert isinstance(deployment, RunnerDeployment)  # a coroutine only inside an event loop
        prefect.serve(deployment, limit=1)  # not retrain.serve: that pickles the flow for each run, and fails at it


def _check(cron: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron)
    except ValidationError:
        raise ParamsError(
            expected="five fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12), day of week (0-6)",
            found=f"'{cron}'",
            where="--cron",
            remedy='Write for example "0 3 * * *": every night at three.',
        ) from None
