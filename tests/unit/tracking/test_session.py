"""Opening the tracking store."""

from __future__ import annotations

import http.server
import logging
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.errors import ParamsError, ServiceError, StoreError
from pipeline.tracking import session as opening
from pipeline.tracking.session import Session, asking_mlflow, open_session, resolve_uri

URI = "sqlite:///.graftline/mlflow.db"


def test_relative_database_lies_in_the_workspace(workspace: Path) -> None:
    """A relative sqlite path starts at the workspace, not at the current folder."""
    assert f"sqlite:///{workspace}/.graftline/mlflow.db" == resolve_uri(workspace, URI)


def test_environment_overrides_params(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI wins over tracking.uri."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert "http://server:5000" == resolve_uri(workspace, URI)


def test_file_store_is_refused(workspace: Path) -> None:
    """A plain folder is not a store any more; the message says what is, and where it was set."""
    with pytest.raises(ParamsError) as caught:
        resolve_uri(workspace, "./mlruns")
    assert "found './mlruns'" in str(caught.value)
    assert "tracking.uri in params.yaml" == caught.value.where


def test_refusal_names_the_environment_and_hides_credentials(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad value from the environment is blamed on the environment, without its password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://me:pw@server/x")
    with pytest.raises(ParamsError) as caught:
        resolve_uri(workspace, URI)
    assert "MLFLOW_TRACKING_URI" in caught.value.where
    assert "pw" not in str(caught.value)


def test_opening_twice_finds_the_same_experiment(session: Session) -> None:
    """The experiment is made once; its artifacts lie in the workspace."""
    again = open_session(session.workspace, URI, "graftline")
    location = session.client.get_experiment(again.experiment_id).artifact_location
    assert session.experiment_id == again.experiment_id
    assert (session.workspace / ".graftline/mlartifacts").as_uri() == location


def test_deleted_experiment_is_restored(session: Session) -> None:
    """Somebody deleted the experiment in MLflow's pages: it comes back with its runs."""
    session.client.delete_experiment(session.experiment_id)
    again = open_session(session.workspace, URI, "graftline")
    assert "active" == again.client.get_experiment(again.experiment_id).lifecycle_stage


def test_opening_leaves_the_environment_alone(session: Session) -> None:
    """MLflow's process-wide URI is not touched, so that another workspace can be opened beside."""
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_fresh_store_opened_twice_at_once(tmp_path: Path) -> None:
    """Whoever comes first migrates the database, the other waits; nothing but the whole database has its name."""
    with ThreadPoolExecutor() as pool:
        sessions = list(pool.map(lambda _: open_session(tmp_path, URI, "graftline"), range(2)))
    assert 1 == len({session.experiment_id for session in sessions})
    assert ["mlflow.db", "mlflow.db.lock"] == sorted(path.name for path in (tmp_path / ".graftline").iterdir())
    database = tmp_path / ".graftline/mlflow.db"
    assert 0o600 == stat.S_IMODE(database.stat().st_mode)
    before = database.stat()
    opening._make_database(database)  # one that is there is left as it is
    assert before == database.stat()


def test_database_left_half_made_is_made_again(tmp_path: Path) -> None:
    """A process was killed while it migrated: the next one starts afresh."""
    (tmp_path / ".graftline").mkdir()
    (tmp_path / ".graftline/mlflow.db.new").write_bytes(b"half a database")
    assert open_session(tmp_path, URI, "graftline").experiment_id


def test_damaged_database_is_named(tmp_path: Path) -> None:
    """A file that is no database is an error of ours that names it, not SQLAlchemy's."""
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    with pytest.raises(ServiceError, match=r"did not open sqlite:///.*broken\.db: .*not a database"):
        open_session(tmp_path, "sqlite:///broken.db", "graftline")


def test_database_without_a_driver(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing Python module is the user's to install: it is named, the password is not."""
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(ParamsError, match="found no Python module 'psycopg2'") as caught:
        open_session(workspace, "postgresql://me:pw@127.0.0.1:9/mlflow", "graftline")
    assert "pw@" not in str(caught.value)
    assert "psycopg2-binary" in caught.value.remedy


def test_server_that_does_not_answer(workspace: Path) -> None:
    """An unreachable server is said at once, without its credentials; MLflow's own retries would take minutes."""
    with pytest.raises(ServiceError) as caught:
        open_session(workspace, "http://me:pw@127.0.0.1:9", "graftline")
    assert "The tracking server http://***@127.0.0.1:9 does not answer: ConnectError." == str(caught.value)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "http://h:5000",
        "https://h",
        "postgresql://h/db",
        "postgresql+psycopg2://h/db",
        "mysql+pymysql://h/db",
        "mssql://h/d",
    ],
)
def test_servers_and_databases_stay_as_they_are(workspace: Path, uri: str) -> None:
    assert uri == resolve_uri(workspace, uri)


def test_a_database_may_lie_in_folders_that_are_not_there_yet(workspace: Path) -> None:
    """They are made, as MLflow's own commands do not."""
    session = open_session(workspace, "sqlite:///shared/by all/mlflow.db", "graftline")
    assert (workspace / "shared/by all/mlflow.db").is_file()
    assert "graftline" == session.client.get_experiment(session.experiment_id).name


def test_models_are_registered_where_runs_are_tracked(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would take another registry from the environment."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{workspace}/elsewhere.db")
    session = open_session(workspace, URI, "graftline")
    session.client.create_registered_model("digits")
    assert not (workspace / "elsewhere.db").exists()


def test_an_absolute_database_stays_where_it_is(workspace: Path, tmp_path: Path) -> None:
    assert f"sqlite:///{tmp_path}/else.db" == resolve_uri(workspace, f"sqlite:///{tmp_path}/else.db")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///runs", "s3://bucket/runs", "httpx://h", "databricks"])
def test_other_kinds_are_refused_with_an_example(workspace: Path, uri: str) -> None:
    with pytest.raises(ParamsError) as caught:
        resolve_uri(workspace, uri)
    error = caught.value
    assert "a tracking URI that starts with sqlite:///, http://, https:// or a database's scheme" == error.expected
    assert (f"'{uri}'", "tracking.uri in params.yaml") == (error.found, error.where)
    assert error.remedy == (
        "Write for example sqlite:///.graftline/mlflow.db; MLflow 3 no longer keeps runs in plain folders."
    )


def test_a_session_shows_no_credentials_and_knows_a_server(session: Session) -> None:
    """A database is none."""
    import dataclasses

    there = dataclasses.replace(session, uri="https://me:pw@mlflow.example")
    assert ("https://***@mlflow.example", True) == (there.shown_uri, there.is_server)
    assert (session.uri, False) == (session.shown_uri, session.is_server)
    assert dataclasses.replace(session, uri="http://h").is_server


# -- what is asked of MLflow -------------------------------------------------------------------------------------------


def _network() -> Exception:
    import requests

    return requests.ConnectionError("https://me:pw@h refused")


def _database() -> Exception:
    from sqlalchemy.exc import OperationalError

    return OperationalError("insert", {}, Exception("locked"))


def _mlflow() -> Exception:
    from mlflow import MlflowException

    return MlflowException("bad request to https://me:pw@h")


@pytest.mark.parametrize("make", [_network, _database, _mlflow, lambda: OSError("disk")])
def test_what_a_library_throws_becomes_ours(make: Callable[[], Exception]) -> None:
    """In one sentence, without secrets, and without a second traceback below it."""
    with pytest.raises(StoreError) as caught, asking_mlflow("tag the run"):
        raise make()
    assert str(caught.value).startswith("MLflow did not tag the run: ")
    assert str(make()).replace("me:pw@", "***@") in str(caught.value)
    assert caught.value.__suppress_context__


def test_our_own_errors_and_mistakes_pass() -> None:
    for kind in (KeyError, StoreError):
        with pytest.raises(kind), asking_mlflow("tag the run"):
            raise kind("as it was")


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def health() -> Iterator[tuple[str, dict[str, int]]]:
    """A server's address, and the status that it answers each path with."""
    answers: dict[str, int] = {"/health": 200}

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = answers.get(self.requestline.split()[1], 404)  # as it was asked: ``path`` has slashes put right
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/login")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://me:pw@127.0.0.1:{server.server_port}", answers
        server.shutdown()


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (404, True), (499, True), (500, False), (503, False)])
def test_a_server_is_asked_for_its_health(health: tuple[str, dict[str, int]], status: int, is_well: bool) -> None:
    """One that knows no such page lives; the message hides the credentials."""
    url, answers = health
    answers["/health"] = status
    if is_well:
        opening._check_health(url)
        return
    with pytest.raises(StoreError) as caught:
        opening._check_health(url)
    shown = url.replace("me:pw@", "***@")
    assert f"The tracking server {shown} answers its health check with {status}." == str(caught.value)


def test_a_server_that_does_not_answer_its_health_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the call and says nothing: given up after some seconds, in words."""
    monkeypatch.setattr(opening, "SERVER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StoreError) as caught:
        opening._check_health(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "does not answer" in str(caught.value)


def test_a_server_that_sends_us_on_is_followed(health: tuple[str, dict[str, int]]) -> None:
    """And one whose address ends with a slash is asked for the same page."""
    url, answers = health
    answers |= {"/health": 302, "/login": 503}
    for form in (url, f"{url}/"):
        with pytest.raises(StoreError, match="answers its health check with 503"):
            opening._check_health(form)


def test_a_server_that_is_ill_is_not_opened(health: tuple[str, dict[str, int]], workspace: Path) -> None:
    """It is asked before anything else is."""
    url, answers = health
    answers["/health"] = 503
    with pytest.raises(StoreError, match="503"):
        open_session(workspace, url, "graftline")


def test_mlflow_is_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has set stays; the loggers that talk of every migration and version are turned down."""
    for name in opening._QUIET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    for name in opening._CHATTER:
        logging.getLogger(name).setLevel(logging.DEBUG)
    opening._be_quiet()
    expected = {**opening._QUIET, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5"}
    assert expected == {name: os.environ[name] for name in opening._QUIET}
    assert "true" == os.environ["MLFLOW_DISABLE_TELEMETRY"]
    assert opening._CHATTER == {name: logging.getLogger(name).level for name in opening._CHATTER}


def test_an_experiment_that_another_made_in_between_is_used(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that start in the same moment: who comes second finds the first one's."""
    real, looks = session.client.get_experiment_by_name, []

    def not_yet(name: str) -> object:
        looks.append(name)
        return None if len(looks) == 1 else real(name)

    monkeypatch.setattr(session.client, "get_experiment_by_name", not_yet)
    found = opening._experiment(session.client, "graftline", session.workspace, session.uri)
    assert (session.experiment_id, ["graftline", "graftline"]) == (found, looks)


def test_a_name_that_mlflow_does_not_take_is_told(workspace: Path) -> None:
    with pytest.raises(StoreError, match=r"MLflow did not open sqlite:///.*mlflow\.db: .*name"):
        open_session(workspace, URI, "")


def test_a_server_places_its_artifacts_itself(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database's lie in the workspace."""
    places: list[object] = []
    monkeypatch.setattr(
        session.client, "create_experiment", lambda name, artifact_location: places.append(artifact_location) or "7"
    )
    for uri in ("http://h:5000", session.uri):
        assert "7" == opening._experiment(session.client, "other", session.workspace, uri)
    assert [None, (session.workspace / ".graftline/mlartifacts").as_uri()] == places


def test_a_missing_driver_says_what_to_install(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:pw@127.0.0.1:9/mlflow")
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(ParamsError) as caught:
        open_session(workspace, URI, "graftline")
    error = caught.value
    assert "a driver for postgresql://***@127.0.0.1:9/mlflow" == error.expected
    assert "the environment variable MLFLOW_TRACKING_URI" == error.where
    assert error.remedy == (
        "Install it beside Graftline (for PostgreSQL: psycopg2-binary; for MySQL: PyMySQL and mysql+pymysql://), or "
        "use a sqlite database or a tracking server."
    )
