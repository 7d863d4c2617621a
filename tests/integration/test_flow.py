"""The retraining as plain calls and as a Prefect flow, against a real Prefect server and a world of toys."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import httpx
import pytest

from flows import inline, prefect_server, sequence
from flows.environment import quiet_console
from flows.steps import STEPS
from pipeline.catalog import CATALOG
from pipeline.core.errors import DataError, ServiceError, StageError
from pipeline.core.interrupts import Terminated, interrupted_by_sigterm
from pipeline.evaluation.report import Latency, Metrics
from pipeline.gates._base import Finding, Verdict
from pipeline.graph.table import STAGES
from pipeline.graph.through_dvc import Ran
from pipeline.release.decide import Outcome

ERROR = DataError(expected="images", found="an empty folder", where="ingest.target.path", remedy="Add some.")


class World:
    """What the toy steps change, and what they are told to do."""

    def __init__(self):
        self.champion, self.challenger, self.handoff, self.withdrawn = 1, None, 1, None
        self.reports, self.closed, self.told = [], [], []
        self.failures = {}

    def meet(self, name):
        """Raise what was planned for this stage or step; a list is used up."""
        planned = self.failures.get(name, [])
        if planned:
            raise planned.pop(0)

    # The toy steps, by the names in flows/steps.py

    def recover(self, *_):
        return []

    def pin_last_data(self, *_):
        return True

    def pin_champion(self, *_):
        return "compared with digits v1"

    def open_run(self, *_):
        return "run-1"

    def record_run(self, *_):
        return None

    def finish_run(self, workspace, settings, run_id, outcome):
        self.closed.append((run_id, outcome and outcome.kind))

    def settled(self, *_):
        return None

    def register(self, workspace, settings, run_id):
        self.challenger = 2
        return 2

    def undo_register(self, workspace, settings, version, reason):
        self.challenger, self.withdrawn = None, (version, reason)

    def hold(self, workspace, settings, version):
        return _outcome("held", self.champion)

    def smoke_test(self, *_):
        return "4 golden answers repeated"

    def promote(self, workspace, settings, version):
        before, self.champion = self.champion, version
        return before

    def undo_promote(self, workspace, settings, before, reason):
        self.champion = before

    def publish(self, workspace, settings, version):
        before, self.handoff = self.handoff, version
        return before

    def undo_publish(self, workspace, settings, before, reason):
        self.handoff = before

    def conclude(self, workspace, settings, promotion):
        return _outcome("promoted", self.champion)

    def report(self, workspace, settings, kind=None):
        self.reports.append(kind)

    def announce(self, workspace, settings, outcome):
        self.told.append(outcome.kind)


def _outcome(kind, champion):
    return Outcome(
        kind=kind,
        model="digits",
        version=2,
        champion=champion,
        previous=1,
        reason="",
        handoff=f"handoff/v{champion}",
        passed=("accuracy_floor",),
        failed=(),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of the API of one Prefect server for all tests here, its database and settings in a temporary folder."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.delenv("PREFECT_API_URL", raising=False)
        quiet_console()
        with prefect_server.reachable(home) as api:
            yield api


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "my digits"
    finding = Finding(gate="accuracy_floor", passed=True, observed="0.93", required="≥ 0.80", why="0.93 ≥ 0.80")
    Verdict(passed=True, findings=[finding]).save(folder / CATALOG["verdict"].path)
    Metrics(images=40, accuracy=0.93, accuracy_low=0.9, accuracy_high=0.96, model_size_mb=1.5, classes=["0", "1"]).save(
        folder / CATALOG["metrics"].path
    )
    Latency(p50_ms=1.0, p95_ms=2.0, runs=10, height_px=8, width_px=8).save(folder / CATALOG["latency"].path)
    (folder / "params.yaml").write_text("model: My_Digits\n")
    return folder


@pytest.fixture
def world(monkeypatch):
    """A world of toys in the place of the stages and the steps."""
    toys = World()

    def reproduce(dvc, name, emit):
        toys.meet(name)
        return Ran(name, fresh=True, line="7 images", seconds=0.5)

    for step in STEPS:
        undo = getattr(toys, f"undo_{step.name}") if step.undo else None
        monkeypatch.setattr(sequence, step.name.upper(), step._replace(do=_met(toys, step.name), undo=undo))
    monkeypatch.setattr("pipeline.graph.through_dvc.Dvc.reproduce", reproduce)
    monkeypatch.setattr("pipeline.graph.through_dvc.stale", lambda workspace: {"ingest": ["new"]})
    monkeypatch.setattr(sequence.dvcfile, "write", lambda workspace, settings: False)
    monkeypatch.setattr("flows.steps.FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(
        sequence.decide, "judged", lambda workspace: SimpleNamespace(verdict=CATALOG["verdict"].load(workspace))
    )
    return toys


def _met(toys, name):
    def do(*arguments):
        toys.meet(name)
        return getattr(toys, name)(*arguments)

    return do


@pytest.fixture(params=["inline", "flow"])
def run(request, workspace, world):
    """Retrain the toy workspace, both ways; ``run.lines`` is what was said."""
    if request.param == "flow":
        request.getfixturevalue("server")
    lines = []

    def start(*assignments):
        if request.param == "inline":
            return inline.run(workspace, emit=lines.append, assignments=assignments)
        from flows.retrain import call

        return call(workspace, lines.append, assignments)

    start.lines = lines
    return start


def test_a_passing_challenger_becomes_champion(run, world):
    """In the registry and in the hand-off; the report tells it, the webhook is told."""
    outcome = run()
    assert "promoted" == outcome.kind
    assert (2, 2) == (world.champion, world.handoff)
    assert ["promoted"] == world.reports
    assert ["promoted"] == world.told
    assert [("run-1", "promoted")] == world.closed
    assert [f"{stage.name:<9} 7 images  (0.5 s)" for stage in STAGES] == run.lines[: len(STAGES)]
    assert "Gates: 1 passed, 0 failed · champion digits v2 · handoff/v2" == run.lines[-1]


@pytest.mark.parametrize("run", ["flow"], indirect=True)
@pytest.mark.parametrize(("sent", "out"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize("task", ["ingest", "report"])
def test_an_interrupt_before_a_task_has_begun_is_an_interrupt(run, world, monkeypatch, task, sent, out):
    """Prefect, closing a task run that it has not made yet, raises an error of its own over it; neither that nor a
    page that may fail hides what was sent."""
    from prefect import task_engine

    make = task_engine._create_task_run_locally

    def interrupted(**arguments):
        if arguments["task"].name == task:
            os.kill(os.getpid(), sent)
            time.sleep(1)
        return make(**arguments)

    monkeypatch.setattr(task_engine, "_create_task_run_locally", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught, interrupted_by_sigterm():
        run()
    assert out is caught.type
    assert [] == world.told


@pytest.mark.parametrize("run", ["flow"], indirect=True)
def test_what_prefect_does_not_show_changes_nothing(run, monkeypatch):
    """Its artifacts are copies for people to look at: one that is refused is said, and the challenger promoted."""
    from flows import artifacts

    def refuse(workspace, settings):
        raise ValueError("no such thing")

    monkeypatch.setitem(artifacts.SHOWN, "evidence", refuse)
    assert "promoted" == run().kind
    assert "Not shown in Prefect: ValueError: no such thing" in run.lines


def test_a_failed_gate_is_a_hold(run, world, workspace):
    """Not an error: the outcome says so, and the champion stays."""
    finding = Finding(gate="accuracy_floor", passed=False, observed="0.5", required="≥ 0.8", why="0.5 < 0.8")
    Verdict(passed=False, findings=[finding]).save(workspace / CATALOG["verdict"].path)
    assert "held" == run().kind
    assert (1, 1) == (world.champion, world.handoff)


def test_an_input_error_comes_out_as_it_went_in(run, world):
    """The very same object, so that the command line can print its message and exit with 2."""
    world.failures["validate"] = [ERROR]
    with pytest.raises(DataError) as raised:
        run()
    assert str(ERROR) == str(raised.value)
    assert [] == world.closed, "no MLflow run was open yet"


def test_a_step_that_breaks_after_promoting_puts_everything_back(run, world):
    """Registry and hand-off are as before, the version is withdrawn with the reason, the MLflow run has failed."""
    world.failures["conclude"] = [StageError("no space left on device\n…")]
    with pytest.raises(StageError):
        run()
    assert (1, 1, None) == (world.champion, world.handoff, world.challenger)
    assert (2, "no space left on device") == world.withdrawn
    assert [("run-1", None)] == world.closed
    assert ["undone: publish", "undone: promote", "undone: register"] == run.lines[-3:]


def test_assignments_reach_the_params(run, workspace):
    """Both ways; they are written down and said before anything runs."""
    run("seed=3")
    assert "set seed: 0 → 3" == run.lines[0]
    assert "seed: 3" in (workspace / "params.yaml").read_text()


def test_a_second_attempt_undoes_nothing(run, world):
    """Prefect's own retries would: they roll the transaction back before they try again."""
    world.failures["smoke_test"] = [ServiceError("a bad moment"), ServiceError("another")]
    assert "promoted" == run().kind
    assert world.withdrawn is None
    assert 2 == world.challenger


# -- what Prefect has of it --------------------------------------------------------------------------------------------


def _ask(server, what, body=None):
    return httpx.post(f"{server}/{what}/filter", json=body or {}, trust_env=False).json()


def test_prefect_shows_the_whole_run(server, workspace, world):
    """How it ended, a task for each row, the artifacts, and every line in the log, for where no terminal listens."""
    from prefect.logging.handlers import APILogWorker

    from flows.retrain import retrain

    run_id = str(retrain(workspace, return_state=True).state_details.flow_run_id)
    APILogWorker.drain_all(timeout=5)

    shown = httpx.get(f"{server}/flow_runs/{run_id}", trust_env=False).json()
    assert ("Promoted", "COMPLETED") == (shown["state_name"], shown["state_type"])
    assert "Gates: 1 passed, 0 failed · champion digits v2 · handoff/v2" == shown["state"]["message"]
    assert shown["name"].startswith("my digits ")
    assert {"workspace": str(workspace)} == shown["parameters"]
    _check_tasks(server, run_id)
    _check_artifacts(server, run_id)
    logs = _ask(server, "logs", {"logs": {"flow_run_id": {"any_": [run_id]}}})
    assert f"{'ingest':<9} 7 images  (0.5 s)" in [log["message"] for log in logs]


def _check_tasks(server, run_id):
    """One per stage, in order, and one per step that was done; the server writes them down in its own time."""
    deadline = time.monotonic() + 10
    tasks = []
    while len(tasks) < len(STAGES) + 15 and time.monotonic() < deadline:
        time.sleep(0.1)
        tasks = _ask(server, "task_runs", {"flow_runs": {"id": {"any_": [run_id]}}})
    tasks.sort(key=lambda task: task["start_time"])
    names, stages = [task["name"] for task in tasks], [stage.name for stage in STAGES]
    assert stages == [name for name in names if name in stages]
    expected = {"register", "smoke_test", "promote", "publish", "conclude", "announce", "report", "settled"}
    assert expected <= set(names)
    assert not any(task["tags"] for task in tasks), "for each of them Prefect asks the server for a slot"
    assert {"COMPLETED"} == {task["state_type"] for task in tasks}


def _check_artifacts(server, run_id):
    """Under keys of the model, so that Prefect keeps their history."""
    found = _ask(server, "artifacts", {"flow_runs": {"id": {"any_": [run_id]}}})
    artifacts = {artifact["key"]: artifact["data"] for artifact in found}
    assert {"my-digits-gates", "my-digits-metrics", "my-digits-report", "my-digits-bundle"} == set(artifacts)
    assert "accuracy_floor" in artifacts["my-digits-gates"]
    assert "| accuracy | 0.9300 | 0.9000 to 0.9600 |" in artifacts["my-digits-metrics"]


def test_a_second_server_is_not_started_where_one_is_configured(server, tmp_path):
    """``PREFECT_API_URL`` wins."""
    assert server == os.environ["PREFECT_API_URL"]
    with prefect_server.reachable(tmp_path) as api:
        assert server == api
    assert not (tmp_path / ".graftline").exists()
