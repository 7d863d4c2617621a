"""Which Prefect server a run reports to, first match wins:

1. the one the user has configured: ``PREFECT_API_URL``, or Prefect's own profile or ``prefect.toml``;
2. the one that ``make servers`` started in this workspace;
3. a temporary one, for this run only. Its history is the workspace's, so 2 shows it later.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from flows import services
from flows.environment import DATABASE, database_url
from flows.services import HOST, OWNER_ONLY, Service

NAME = "prefect"
API_URL = "PREFECT_API_URL"
DELIVER_WITHIN_S = 5.0
SETTLED_AFTER_S = 0.15


def service(workspace: Path, port: int, *, schedules: bool = True) -> Service:
    """A Prefect server whose database lies in the workspace; without ``schedules``, it shows no pages either (they
    take a second of its start)."""
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    environment = {DATABASE: os.environ.get(DATABASE, database_url(workspace))}
    return Service(
        name=NAME if schedules else "prefect-temporary",
        command=command if schedules else [*command, "--no-ui", "--no-scheduler", "--no-late-runs"],
        url=url,
        health_url=f"{url}/api/health",
        environment=environment,
        umask=OWNER_ONLY,
    )


@contextlib.contextmanager
def reachable(
    workspace: Path, *, schedules: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """Inside the block Prefect finds a server, whose API address is yielded; one that was started here ends with it.

    Args:
        schedules: a server started here must create scheduled runs too, and show its pages.
        meanwhile: what can be done while a server starts; not called where one runs already.

    Raises:
        ServiceError: a server of our own did not start.
    """
    if configured := _configured():
        yield configured
    elif running := _running(workspace):
        with _pointed_at(f"{running.url}/api"):
            yield f"{running.url}/api"
    else:
        with _temporary(workspace, schedules, meanwhile) as url:
            yield url


def _configured() -> str | None:
    """The user's choice. Prefect is asked only where it may know one, for importing it takes a second or two."""
    if url := os.environ.get(API_URL):
        return url
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if "prefect" not in sys.modules and not any(
        file.exists() for file in (home / "profiles.toml", Path("prefect.toml"), Path(".env"))
    ):
        return None
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _running(workspace: Path) -> services.Running | None:
    running = services.find(workspace, NAME)
    return running if running and running.healthy else None


@contextlib.contextmanager
def _temporary(workspace: Path, schedules: bool, meanwhile: Callable[[], object]) -> Iterator[str]:
    own = service(workspace, services.port_for(0, NAME), schedules=schedules)
    api = f"{own.url}/api"
    with services.temporary(own, workspace) as server, _pointed_at(api):
        import prefect  # noqa: F401  # takes a while, and so does the server's start: both at once

        meanwhile()
        services.wait(server)
        try:
            with contextlib.nullcontext() if schedules else _without_heartbeat():
                yield api
        finally:
            _deliver(api)


def _deliver(api: str) -> None:
    """Prefect sends logs and task states in the background, and its server writes them down in its own time. All of
    that must have happened before the server is stopped, or its history would show tasks that never end."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=DELIVER_WITHIN_S)
    deadline = time.monotonic() + DELIVER_WITHIN_S
    before, now = -1, _finished_tasks(api)
    while before != now and time.monotonic() < deadline:
        time.sleep(SETTLED_AFTER_S)
        before, now = now, _finished_tasks(api)


def _finished_tasks(api: str) -> int:
    final = {"task_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}}
    try:
        return int(httpx.post(f"{api}/task_runs/count", json=final, trust_env=False).json())
    except httpx.HTTPError:
        return 0  # the server is gone already (a Ctrl-C may reach it first): nothing to wait for


@contextlib.contextmanager
def _without_heartbeat() -> Iterator[None]:
    """A heartbeat tells a server that outlives us that we still live. This one does not outlive us, and the
    heartbeat's thread would hold up the end of the flow for up to a second."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@contextlib.contextmanager
def _pointed_at(url: str) -> Iterator[None]:
    """Set the address for the block, and let a Prefect that is imported already read it.

    By the environment, not by ``temporary_settings``: threads that Prefect starts itself fall back to the process's
    global settings, and one that finds no address there starts a server of its own.
    """
    os.environ[API_URL] = url
    _refresh()
    try:
        yield
    finally:
        del os.environ[API_URL]
        _refresh()


def _refresh() -> None:
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
