"""The environment that Prefect is imported in; :func:`prepare` must run before ``import prefect``.

Everything here is a default: what the user has set in the environment stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core import telemetry

DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A fresh database is migrated first; on a busy laptop that outlasts Prefect's default of 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Lines said outside a run (by a lock that waits, say) need no warning that they were not sent to the server.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

CONSOLE = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
"""Overrides ``handlers.console.level`` of Prefect's logging.yml, and with it nothing that is sent to the server."""

DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def prepare() -> None:
    """Set the defaults of every process that imports a flow: the command line, a worker's, a test's."""
    telemetry.off()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def quiet_console() -> None:
    """Leave the terminal to our own lines; the same run's log on the server keeps Prefect's, from INFO up.

    CRITICAL, because Prefect also logs every exception that leaves a flow, traceback and all, and the command line
    says it better.
    """
    os.environ.setdefault(CONSOLE, "CRITICAL")


def database_url(workspace: Path) -> str:
    """Prefect's own history, in the workspace: it goes with the folder, and no other project's Prefect migrates it."""
    return f"sqlite+aiosqlite:///{workspace.resolve().as_posix()}/.graftline/prefect.db"
