"""``graftline run``: the flow, in this process, with a Prefect server if none is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows import prefect_server
from flows.environment import quiet_console
from pipeline import params
from pipeline.params import Settings
from pipeline.release.decide import Outcome
from pipeline.tracking.session import open_session


def run(workspace: Path, *, emit: Callable[[str], None] = print) -> Outcome:
    """Retrain; ``emit`` gets one line per stage and the closing line. Raises what
    :func:`flows.sequence.retrain` raises.

    Prefect is imported in here: while its server starts, and after the terminal was claimed for our own lines.
    """
    settings = params.load(workspace)  # a typo need not wait for a server
    quiet_console()
    with prefect_server.reachable(workspace, meanwhile=lambda: _open_tracking(workspace, settings)):
        from flows.retrain import call

        return call(workspace, emit)


def _open_tracking(workspace: Path, settings: Settings) -> None:
    """Importing MLflow takes as long as a Prefect server's start; and a tracking server that does not answer is better
    known before hours of training than after."""
    open_session(workspace, settings.tracking.uri, settings.tracking.experiment)
