"""The MLflow server dies, or hangs, in the middle of a run, for real: what the stages made is kept, what could not be
sent waits on disk, and the next run finishes everything exactly once.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration_tools import migrated_store
from mlflow_server import MlflowServer
from release_toys import import_once, toys, train_in

from flows import inline
from flows import steps as table
from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.errors import StoreError
from pipeline.flow_params import Tracking
from pipeline.graph.table import STAGES
from pipeline.graph.through_dvc import Dvc
from pipeline.release import steps
from pipeline.release.history import History
from pipeline.tracking import runs, unsent
from pipeline.tracking import session as tracking_session
from pipeline.tracking.registry import Registry
from pipeline.tracking.session import open_session

NOBODY = "http://127.0.0.1:9"
"""The discard port: the connection is refused at once."""

STEPS = ("open_run", "record_run", "register", "smoke_test", "promote", "conclude", "finish_run")
"""Steps before which the server dies. Between ``register`` and ``promote`` lies the smoke test."""

EXPECTED = {"conclude": [("FAILED", None)], "finish_run": [("FINISHED", "promoted")]}
"""MLflow runs afterwards, where the second run had nothing left to decide; else there is one of each run."""


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(table, "FIRST_DELAY_S", 0.1)


# -- a whole run -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def workspace(copy_of: Path, server: MlflowServer, tmp_path: Path) -> Path:
    """Every stage is up to date, and nothing was ever released: the first run with this server does that."""
    if not server.running:
        server.start()
    for place in ("handoff", "state/history.jsonl", ".graftline/open_runs.json"):
        path = copy_of / place
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    params.assign(copy_of, [f"tracking.uri={server.url}", f"model={model_of(tmp_path)}"])
    return copy_of


def model_of(tmp_path: Path) -> str:
    """Each test has its own model and its own experiment on the server that they share."""
    return f"digits-{digests.of_json(tmp_path.name)[:8]}"


def kill_before(step: str, server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL the server right before a step of the flow is done for the first time."""
    attempt = inline.attempt

    def do(found: table.Step, *arguments: Any, say: Callable[[str], None]) -> Any:
        if found.name == step and server.running:
            server.kill()
        return attempt(found, *arguments, say=say)

    monkeypatch.setattr(inline, "attempt", do)


def registry_of(workspace: Path) -> Registry:
    settings = params.load(workspace)
    session = open_session(workspace, settings.tracking.uri, settings.tracking.experiment)
    return Registry(session, settings.model)


def runs_of(workspace: Path) -> list[Any]:
    """The MLflow runs of this workspace's model, oldest first."""
    registry = registry_of(workspace)
    found = registry.session.client.search_runs(
        [registry.session.experiment_id], f"tags.model = '{registry.name}'", order_by=["attributes.start_time ASC"]
    )
    return list(found)


def check_released_once(workspace: Path) -> None:
    """Registry, history and hand-off tell of one version that was promoted once; nothing waits any more."""
    versions = registry_of(workspace).versions()
    assert [(1, ("champion",))] == [(version.number, version.aliases) for version in versions]
    assert [("promoted", 1)] == [(entry.action, entry.version) for entry in History(workspace).entries]
    assert "v1" == os.readlink(workspace / "handoff/current")
    assert digests.of_file(workspace / "handoff/current/model.onnx") == versions[0].sha256
    assert "held" not in versions[0].tags
    assert [] == unsent.waiting(workspace)
    assert set() == runs.open_runs(workspace)
    assert not (workspace / "state/pending.json").exists()


def stages_ran(lines: list[str]) -> list[str]:
    """Stages that were computed, and not found unchanged."""
    names = {stage.name for stage in STAGES}
    return [line.split()[0] for line in lines if line.split()[0] in names and "(unchanged)" not in line]


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_dies_before_a_step(
    workspace: Path, server: MlflowServer, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with a sentence, or well where the decision was made; with the server back the next run finishes it,
    computes nothing, and there is one MLflow run for each run that had one to make."""
    with monkeypatch.context() as patch:
        kill_before(step, server, patch)
        said: list[str] = []
        if step == "finish_run":
            assert "promoted" == inline.run(workspace, emit=said.append).kind
        else:
            with pytest.raises(StoreError, match="does not answer") as raised:
                inline.run(workspace, emit=said.append)
            assert "the next graftline run finishes it, with nothing computed again" in str(raised.value)
    assert not server.running
    assert 1 == len(unsent.waiting(workspace))
    assert any("is sent by the next run" in line for line in said), said
    server.start()
    again: list[str] = []
    ended = inline.run(workspace, emit=again.append)
    assert [] == stages_ran(again)
    assert any(line.startswith("sent to tracking what an earlier run could not send") for line in again), again
    check_released_once(workspace)
    found = runs_of(workspace)
    told = [(run.info.status, run.data.tags.get("outcome")) for run in found]
    assert EXPECTED.get(step, [("FAILED", None), ("FINISHED", "promoted")]) == told
    assert ("unchanged" if step in EXPECTED else "promoted") == ended.kind
    assert all("accuracy" in run.data.metrics for run in found)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_server_that_dies_between_two_aliases(
    workspace: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``previous`` was moved and ``champion`` was not: no half of it is taken for a promotion."""
    point = Registry._point

    def die_before_champion(registry: Registry, alias: str, number: int | None) -> None:
        if alias == "champion" and server.running:
            server.kill()
        point(registry, alias, number)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_point", die_before_champion)
        with pytest.raises(StoreError):
            inline.run(workspace, emit=lambda line: None)
    assert [] == History(workspace).entries
    assert not (workspace / "handoff/current").exists()
    server.start()
    inline.run(workspace, emit=lambda line: None)
    check_released_once(workspace)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", ["open_run", "register", "promote"])
def test_a_server_that_hangs_before_a_step(
    workspace: Path, server: MlflowServer, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections and says nothing: the run ends as with one that died, long before this test's own limit."""
    attempt = inline.attempt

    def hang(found: table.Step, *arguments: Any, say: Callable[[str], None]) -> Any:
        if found.name == step:
            server.pause()
        return attempt(found, *arguments, say=say)

    with monkeypatch.context() as patch:
        patch.setattr(inline, "attempt", hang)
        with pytest.raises(StoreError, match="does not answer: ReadTimeout"):
            inline.run(workspace, emit=lambda line: None)
    server.resume()
    again: list[str] = []
    inline.run(workspace, emit=again.append)
    assert [] == stages_ran(again)
    check_released_once(workspace)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_server_that_hangs_between_two_aliases(
    workspace: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request for ``champion`` was taken and not answered: given up in words; that the server does it once it wakes
    makes no second promotion."""
    point = Registry._point

    def hang_before_champion(registry: Registry, alias: str, number: int | None) -> None:
        if alias == "champion":
            server.pause()
        point(registry, alias, number)

    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
        patch.setattr(Registry, "_point", hang_before_champion)
        with pytest.raises(StoreError, match="timed out"):
            inline.run(workspace, emit=lambda line: None)
    assert [] == History(workspace).entries
    assert not (workspace / "handoff/current").exists()
    server.resume()
    inline.run(workspace, emit=lambda line: None)
    check_released_once(workspace)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_server_that_dies_while_the_network_trains(
    workspace: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on to its end; it is not repeated, and its curves are in MLflow afterwards."""
    params.assign(workspace, ["train.strategy.name=lp_ft", "train.strategy.epochs=3"])
    reproduce, computed = Dvc.reproduce, []

    def die_in_training(dvc: Dvc, name: str, *, emit: Callable[[str], None]) -> Any:
        if name == "train" and server.running:
            threading.Timer(2.0, server.kill).start()
        ran = reproduce(dvc, name, emit=emit)
        computed.extend([name] * ran.fresh)
        return ran

    monkeypatch.setattr(Dvc, "reproduce", die_in_training)
    with pytest.raises(StoreError, match="does not answer"):
        inline.run(workspace, emit=lambda line: None)
    assert "train" in computed
    trained = digests.of_path(workspace / CATALOG["training"].path)
    computed.clear()
    server.start()
    monkeypatch.setattr(Dvc, "reproduce", reproduce)
    said: list[str] = []
    inline.run(workspace, emit=said.append)
    assert trained == digests.of_path(workspace / CATALOG["training"].path)
    assert not {"ingest", "features", "train", "export"} & set(stages_ran(said))
    check_released_once(workspace)
    client = registry_of(workspace).session.client
    for run in runs_of(workspace):
        curves = [name for name in run.data.metrics if name.startswith("curve/")]
        assert curves
        for name in curves:
            points = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert sorted(set(points)) == sorted(points)


# -- quickly, with toys ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_once()
    return migrated_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def toy(tmp_path: Path, toy_store: Path) -> Path:
    """A workspace whose stages have left a model that passes."""
    folder = tmp_path / "my workspace"
    (folder / ".graftline").mkdir(parents=True)
    shutil.copyfile(toy_store, folder / ".graftline/mlflow.db")
    train_in(folder)(0.1)
    return folder


def gone(settings: Any) -> Any:
    """The same settings while nobody answers."""
    return settings.model_copy(update={"tracking": Tracking(uri=NOBODY)})


def test_an_outcome_that_could_not_be_sent_is_sent_by_the_next_run(toy: Path) -> None:
    """A promotion whose MLflow run could not be closed is told as what it was, once, and not as killed."""
    settings = toys.SETTINGS
    run_id = steps.start_run(toy, settings)
    version = steps.register(toy, settings, run_id)
    steps.record_run(toy, settings, run_id)
    move = steps.promote(toy, settings, version)
    steps.publish(toy, settings, version)
    outcome = steps.conclude(toy, settings, move)
    with pytest.raises(StoreError, match=r"The tracking server http://127\.0\.0\.1:9 does not answer: ConnectError"):
        steps.finish_run(toy, gone(settings), run_id, outcome)
    place = steps.keep_record(toy, settings, run_id, outcome, started_s=1.0)
    assert [place] == unsent.waiting(toy)
    (waits,) = steps.recover(toy, gone(settings))
    assert waits.startswith("what earlier runs have left for tracking waits for the next run: The tracking server")
    said = [f"sent to tracking what an earlier run could not send: MLflow run {run_id}"]
    assert said == steps.recover(toy, settings)
    assert [] == steps.recover(toy, settings) == unsent.waiting(toy)
    [run] = toys.runs_of(toy)
    assert ("FINISHED", "promoted") == (run.info.status, run.data.tags["outcome"])


def test_a_run_that_could_not_be_opened_is_opened_afterwards(toy: Path) -> None:
    """With what the stages had made by then, whatever is in the workspace now; sent twice it is one run."""
    settings = toys.SETTINGS
    with pytest.raises(StoreError):
        steps.start_run(toy, gone(settings))
    place = steps.keep_record(toy, settings, None, None, started_s=1_700_000_000.0)
    toys.write(toy / "reports/metrics.json", {"accuracy": 0.1})
    before = shutil.copytree(place, toy / "before")
    steps.recover(toy, settings)
    shutil.copytree(before, place)  # as if it had been killed before the folder was removed
    steps.recover(toy, settings)
    [run] = toys.runs_of(toy)
    assert ("FAILED", 0.9) == (run.info.status, run.data.metrics["accuracy"])
    assert 1_700_000_000_000 == run.info.start_time


def test_a_run_whose_opening_was_not_answered_is_not_opened_twice(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server made the run and died before it said so: the next attempt finds it by its key."""
    from mlflow import MlflowClient

    create_run = MlflowClient.create_run

    def lose_the_answer(*arguments: Any, **named: Any) -> Any:
        create_run(*arguments, **named)
        raise ConnectionError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lose_the_answer)
        with pytest.raises(StoreError, match="MLflow did not start a run: connection reset"):
            steps.start_run(toy, toys.SETTINGS)
    run_id = steps.start_run(toy, toys.SETTINGS)
    assert [run_id] == [run.info.run_id for run in toys.runs_of(toy)]
    assert run_id != steps.start_run(toy, toys.SETTINGS)


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_takes_a_connection_and_says_nothing(
    tmp_path: Path, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run asks for its health first, and gives up."""
    monkeypatch.setattr(tracking_session, "SERVER_TIMEOUT_S", 0.2)
    with pytest.raises(StoreError, match=f"The tracking server {mute} does not answer: ReadTimeout"):
        open_session(tmp_path, mute, "graftline")


def test_a_server_that_falls_silent_after_its_health_check(
    tmp_path: Path, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has its time and so many tries; MLflow's own are seven of two minutes, with growing pauses."""
    open_session(tmp_path, toys.SETTINGS.tracking.uri, "graftline")
    retries, limit_s = (int(os.environ[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("MAX_RETRIES", "TIMEOUT"))
    assert (retries + 1) * limit_s <= 180
    monkeypatch.setattr(tracking_session, "_check_health", lambda uri: None)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match=f"MLflow did not open {mute}: .*timed out"):
        open_session(tmp_path, mute, "graftline")


def test_what_waits_holds_no_secret(toy: Path) -> None:
    """As what is sent holds none."""
    settings = toys.SETTINGS.model_copy(update={"tracking": Tracking(uri="https://me:s3cret@mlflow.example")})
    place = steps.keep_record(toy, settings, None, None, started_s=1.0)
    assert [] == [path for path in place.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
