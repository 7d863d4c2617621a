"""Opens the tracking store: one :class:`Session` per process, handed to everything else in this package.

Where it is, first match wins:

1. ``MLFLOW_TRACKING_URI`` in the environment: how infrastructure points every workspace at its server, and where
   credentials belong;
2. ``tracking.uri`` in params.yaml; a relative sqlite path starts at the workspace.

For a database the artifacts lie in ``<workspace>/.graftline/mlartifacts``; a server decides for itself. MLflow is used
through its client with an explicit URI, never through its process-wide state: two workspaces may be open in one
process, and ``MLFLOW_RUN_ID`` or an active run of somebody else's changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.core import telemetry
from pipeline.core.errors import ParamsError, StoreError
from pipeline.core.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI_VARIABLE = "MLFLOW_TRACKING_URI"
ARTIFACTS = ".graftline/mlartifacts"
SERVER_TIMEOUT_S = 5.0
"""A tracking server must answer its health check within this; MLflow itself would retry for minutes."""

SQLITE = "sqlite:///"
"""How the URI of a sqlite database begins; its path follows."""

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_QUIET = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a run tries its steps again itself; seven take minutes for each request
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # a server that took a request and says nothing is given up within 3 minutes
}


_CHATTER = {
    "alembic": logging.WARNING,  # a line per migration
    "mlflow.store.db.utils": logging.WARNING,
    "mlflow.store.model_registry.abstract_store": logging.WARNING,  # a line per version on a server
    "mlflow.utils.environment": logging.ERROR,  # warns of every environment made by uv, which has no pip
}


@dataclass(frozen=True)
class Session:
    """An open store. ``uri`` may hold credentials: show ``shown_uri``."""

    workspace: Path
    uri: str
    client: MlflowClient
    experiment_id: str

    @property
    def shown_uri(self) -> str:
        return redact(self.uri)

    @property
    def is_server(self) -> bool:
        return _is_server(self.uri)


def open_session(workspace: Path, uri: str, experiment: str) -> Session:
    """Open the store, making the database and the experiment where they are missing.

    Safe to call from several processes at once. A fresh sqlite database takes seconds (a hundred migrations), an
    existing one a fraction of that.

    Raises:
        ParamsError: the URI is of a kind that MLflow 3 does not keep runs in, or its database has no driver here.
        StoreError: the server does not answer.
    """
    workspace = workspace.resolve()
    resolved = resolve_uri(workspace, uri)
    _be_quiet()
    if resolved.startswith(SQLITE):
        _make_database(Path(resolved.removeprefix(SQLITE)))
    elif _is_server(resolved):
        _check_health(resolved)
    from mlflow import MlflowClient

    with asking_mlflow(f"open {redact(resolved)}"):
        try:
            client = MlflowClient(tracking_uri=resolved, registry_uri=resolved)
            return Session(workspace, resolved, client, _experiment(client, experiment, workspace, resolved))
        except ModuleNotFoundError as error:
            raise _no_driver(resolved, error.name or str(error)) from None


@contextlib.contextmanager
def asking_mlflow(to: str) -> Iterator[None]:
    """Turn what MLflow or the network below it throws into a :class:`StoreError` without secrets.

    As a decorator or in a ``with``; ``to`` completes "MLflow did not …".
    """
    from mlflow import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise StoreError(f"MLflow did not {to}: {redact(str(error))}") from None


def resolve_uri(workspace: Path, uri: str) -> str:
    """The URI in force, absolute; see the head of this file for the order."""
    chosen = os.environ.get(URI_VARIABLE) or uri
    scheme = urlsplit(chosen).scheme
    if scheme.split("+")[0] not in (*_DATABASES, "http", "https"):
        raise ParamsError(
            expected="a tracking URI that starts with sqlite:///, http://, https:// or a database's scheme",
            found=f"'{redact(chosen)}'",
            where=_where_set(),
            remedy=f"Write for example {SQLITE}.graftline/mlflow.db; MLflow 3 no longer keeps runs in plain folders.",
        )
    if not chosen.startswith(SQLITE):
        return chosen
    return f"{SQLITE}{(workspace.resolve() / chosen.removeprefix(SQLITE)).as_posix()}"


def _where_set() -> str:
    return f"the environment variable {URI_VARIABLE}" if os.environ.get(URI_VARIABLE) else "tracking.uri in params.yaml"


def _no_driver(uri: str, module: str) -> ParamsError:
    return ParamsError(
        expected=f"a driver for {redact(uri)}",
        found=f"no Python module '{module}'",
        where=_where_set(),
        remedy="Install it beside Graftline (for PostgreSQL: psycopg2-binary; for MySQL: PyMySQL and "
        "mysql+pymysql://), or use a sqlite database or a tracking server.",
    )


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _be_quiet() -> None:
    """Telemetry off and chatter down; must come before MLflow is imported."""
    telemetry.off()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  # its import sets the levels of these loggers; ours come after

    for logger, level in _CHATTER.items():
        logging.getLogger(logger).setLevel(level)


def _make_database(path: Path) -> None:
    """Migrate a fresh database under another name and rename it: a file under ``path`` is always complete."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.is_file():
            return  # another process has made it while this one waited
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)  # left behind by a killed process
        fresh.touch(mode=0o600)  # before sqlite makes it: params and addresses of runs are its owner's affair
        SqlAlchemyStore(f"{SQLITE}{fresh.as_posix()}", str(path.parent)).engine.dispose()
        os.replace(fresh, path)


def _check_health(uri: str) -> None:
    import httpx

    shown = redact(uri)
    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        raise StoreError(f"The tracking server {shown} does not answer: {type(error).__name__}.") from None
    if answer.status_code >= 500:
        raise StoreError(f"The tracking server {shown} answers its health check with {answer.status_code}.")


def _experiment(client: MlflowClient, name: str, workspace: Path, uri: str) -> str:
    from mlflow import MlflowException

    location = None if _is_server(uri) else (workspace / ARTIFACTS).as_uri()
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _experiment(client, name, workspace, uri)  # another process was faster
