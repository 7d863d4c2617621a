"""Opening the tracking store."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.errors import ParamsError, ServiceError
from pipeline.tracking.session import Session, open_session, resolve_uri

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
