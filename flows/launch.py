"""``graftline run``: the flow, in this process, with a Prefect server if none is there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from flows import prefect_server
from flows.environment import quiet_console
from pipeline import params
from pipeline.core.errors import ParamsError, ServiceError, StoreError
from pipeline.core.redaction import redact
from pipeline.params import Settings
from pipeline.release import steps
from pipeline.release.decide import Outcome


def run(workspace: Path, *, emit: Callable[[str], None] = print, assignments: Sequence[str] = ()) -> Outcome:
    """Retrain; ``emit`` gets one line per stage and the closing line, ``assignments`` (``key=value``) go into
    params.yaml once the workspace is ours. Raises what :func:`flows.sequence.retrain` raises, and a
    ServiceError where the Prefect server goes away in the middle.

    Prefect is imported in here: while its server starts, and after the terminal was claimed for our own lines.
    """
    settings = _preview(workspace, assignments)  # a typo need not wait for a server
    quiet_console()
    with prefect_server.reachable(workspace, meanwhile=lambda: _ask_registry(workspace, settings)) as api:
        from flows.retrain import call

        try:
            return call(workspace, emit, assignments)
        except httpx.HTTPError as error:  # only Prefect's client lets one out: our own steps name what did not answer
            raise _server_gone(api, error) from error


def _server_gone(api: str, error: httpx.HTTPError) -> ServiceError:
    return ServiceError(
        f"The Prefect server {redact(api)} does not answer: {type(error).__name__}.\n"
        "  What the stages have made is kept. Start the server and run again, or run without it: "
        "graftline run --inline."
    )


def _preview(workspace: Path, assignments: Sequence[str]) -> Settings:
    """What the settings will be; params.yaml itself may belong to a run that is at work."""
    if not assignments:
        return params.load(workspace)
    file = workspace / params.FILE
    params.read(file)  # named as it is where it is missing or no YAML
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copyfile(file, Path(scratch, params.FILE))
        try:
            params.assign(Path(scratch), list(assignments))
        except ParamsError as error:
            where = error.where.replace(scratch, str(workspace))
            raise ParamsError(expected=error.expected, found=error.found, where=where, remedy=error.remedy) from None
        return params.load(Path(scratch))


def _ask_registry(workspace: Path, settings: Settings) -> None:
    """Importing MLflow takes as long as a Prefect server's start, and is left out where the registry is as it was. One
    that does not answer costs the view of training and no training; the run itself says so."""
    with contextlib.suppress(StoreError):
        steps.version_lines(workspace, settings)
