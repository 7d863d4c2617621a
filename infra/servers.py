"""``python infra/servers.py start|status|stop``: an MLflow server, a Prefect server and a worker on this machine.

All three listen on loopback only, keep their SQLite databases in the workspace's ``.graftline`` and write their logs to
``.graftline/servers``. ``make servers`` and ``make servers-stop`` call this file.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows import prefect_server, services
from flows.services import HOST, OWNER_ONLY, Running, Service
from pipeline import params
from pipeline.core.errors import GraftlineError
from pipeline.tracking import session

POOL = "graftline"
NAMES = ("worker", prefect_server.NAME, "mlflow")
"""In the order they are stopped: the worker first, so that it can still tell the server that it leaves."""

OWN_DATABASE = "sqlite:///.graftline/mlflow.db"
"""Relative to the workspace; where params.yaml says nothing else."""

NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Seven more processes, for judging language models in the background: nothing of ours."""

LOOK_EVERY_S = 1.0

app = typer.Typer(help="The servers beside the code, on this machine.", no_args_is_help=True, add_completion=False)
Workspace = Annotated[Path, typer.Option("-C", "--workspace", file_okay=False, exists=True, resolve_path=True)]


@app.command()
def start(
    workspace: Workspace = Path(),
    mlflow_port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free port.")] = 5000,
    prefect_port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free port.")] = 4200,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until Ctrl-C, then stop them.")] = False,
) -> None:
    """Start what does not run yet, and return when all of it is healthy."""
    with contextlib.ExitStack() as undo:
        mlflow = _launched(workspace, undo, "mlflow", lambda: _mlflow(workspace, mlflow_port))
        prefect = _launched(workspace, undo, "prefect", lambda: _prefect(workspace, prefect_port))
        for server in (mlflow, prefect):
            services.wait(server)
        services.wait(_launched(workspace, undo, "worker", lambda: _worker(prefect.url, mlflow.url)))
        _show(workspace)
        if wait:
            _stay(workspace)
        else:
            undo.pop_all()


@app.command()
def status(workspace: Workspace = Path()) -> None:
    """Say what runs and whether it is healthy; exit 1 if something is not."""
    if not _show(workspace):
        raise typer.Exit(1)


@app.command()
def stop(workspace: Workspace = Path()) -> None:
    """Stop all of them, and their children."""
    for name in NAMES:
        running = services.find(workspace, name)
        if running:
            services.stop(running, workspace)
        print(f"{name:<8} {'stopped' if running else 'was not running'}")


def _launched(workspace: Path, undo: contextlib.ExitStack, name: str, service: Callable[[], Service]) -> Running:
    """The one that runs already, or a new one that ``undo`` stops."""
    running = services.find(workspace, name)
    if running is None:
        running = services.launch(service(), workspace)
        undo.callback(services.stop, running, workspace)
    return running


def _prefect(workspace: Path, port: int) -> Service:
    return prefect_server.service(workspace, services.port_for(port, "prefect"))


def _mlflow(workspace: Path, wanted_port: int) -> Service:
    """An MLflow server over the same database and artifact folder as ``graftline run`` without a server: runs made
    either way are shown together, and a run made one way is readable the other."""
    port = services.port_for(wanted_port, "mlflow")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", _database(workspace)]
    # Not proxied: an experiment made through a proxy cannot be read without the server.
    command += ["--no-serve-artifacts", "--default-artifact-root", (workspace / session.ARTIFACTS).as_uri()]
    # Without it any page open in a browser could reach the server under a name that resolves to loopback.
    command += ["--allowed-hosts", f"{HOST}:{port},localhost:{port}"]
    url = f"http://{HOST}:{port}"
    return Service("mlflow", command, url=url, health_url=f"{url}/health", environment=NO_JOBS, umask=OWNER_ONLY)


def _database(workspace: Path) -> str:
    """The workspace's own sqlite database, also where params.yaml names a server by now."""
    configured = params.load(workspace).tracking.uri
    return session.resolve_uri(workspace, configured if configured.startswith("sqlite") else OWN_DATABASE)


def _worker(prefect_url: str, mlflow_url: str) -> Service:
    """A process worker: each run is a process of this machine, in the workspace that was deployed. It makes the work
    pool where there is none."""
    api = f"{prefect_url}/api"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--limit", "1"]
    return Service(
        "worker",
        command,
        url=f"{prefect_url}/work-pools/work-pool/{POOL}",
        health_url=f"{api}/work_pools/{POOL}",
        health_text='"status":"READY"',  # READY is what Prefect calls a pool that a worker polls
        environment={prefect_server.API_URL: api, session.URI_VARIABLE: mlflow_url},
    )


def _show(workspace: Path) -> bool:
    """One line for each; are all of them healthy?"""
    states = []
    for name in reversed(NAMES):
        running = services.find(workspace, name)
        states.append(bool(running and running.healthy))
        state = "healthy" if states[-1] else "does not answer" if running else "not running"
        print(f"{name:<8} {state:<16}{running.url if running else ''}".rstrip(), flush=True)
    return all(states)


def _stay(workspace: Path) -> None:
    """Until Ctrl-C, or until one of them dies."""
    print("Ctrl-C stops them.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while all(services.find(workspace, name) for name in NAMES):
            time.sleep(LOOK_EVERY_S)


def main() -> None:
    try:
        app()
    except GraftlineError as error:
        sys.stderr.write(f"servers: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
