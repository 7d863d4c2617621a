"""What an MLflow run keeps of a flow run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.errors import StoreError
from pipeline.tracking import runs
from pipeline.tracking.session import Session

HISTORY = [
    {"phase": "probe", "epoch": 1, "train_loss": 0.9, "val_accuracy": 0.5, "learning_rate": None},
    {"phase": "tune", "epoch": 1, "train_loss": 0.4, "val_accuracy": 0.7, "learning_rate": 0.01},
]


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def run_id(session: Session) -> str:
    return runs.start(session, "digits")


@pytest.fixture
def reports(workspace: Path) -> Path:
    """A workspace as the stages leave it."""
    write(workspace / "reports/metrics.json", {"accuracy": 0.91, "classes": {"a+b": {"recall": 1}}, "good": True})
    write(workspace / "reports/latency.json", {"p50_ms": 1.5})
    write(workspace / "reports/robustness.json", {"pgd_8_accuracy": 0.2, "attacks": [], "pgd_2_accuracy": None})
    write(workspace / "reports/training.json", {"history": HISTORY})
    write(
        workspace / "reports/verdict.json",
        {
            "passed": False,
            "findings": [{"gate": "accuracy_floor", "passed": False}, {"gate": "parity", "passed": True}],
        },
    )
    write(workspace / ".graftline/costs/train.json", {"stage": "train", "seconds": 12.5, "peak_mb": 300.0})
    write(workspace / "reports/plots/confusion.csv", "actual,predicted")
    write(workspace / "data/manifest/target.parquet", "rows")
    (workspace / "dvc.lock").write_text("url: https://me:pw@host/x\n", encoding="utf-8")
    return workspace


def test_a_run_keeps_what_the_stages_left(session: Session, run_id: str, reports: Path) -> None:
    """Params, numbers, costs, verdict and digests are all there, each under a key that MLflow takes."""
    runs.record(session, run_id, {"train": {"strategy": {"name": "lp_ft"}}, "label_map": {"a+b": "c"}})
    data = session.client.get_run(run_id).data
    assert {"train.strategy.name": "lp_ft", "label_map.a_b": "c"} == data.params
    assert 0.91 == data.metrics["accuracy"]
    assert 1.0 == data.metrics["classes.a_b.recall"]
    assert 1.5 == data.metrics["latency/p50_ms"]
    assert 0.2 == data.metrics["robustness/pgd_8_accuracy"]
    assert 12.5 == data.metrics["cost/train/seconds"]
    assert "good" not in data.metrics
    assert ("failed", "accuracy_floor") == (data.tags["verdict"], data.tags["gates_failed"])
    assert 64 == len(data.tags["data/target_manifest_sha256"])


def test_a_run_keeps_the_reports_themselves(session: Session, run_id: str, reports: Path) -> None:
    """Reports, plots, dvc.lock and the params are artifacts; a missing report is left out."""
    runs.record(session, run_id, {})
    top = {entry.path for entry in session.client.list_artifacts(run_id)}
    below = {entry.path for entry in session.client.list_artifacts(run_id, "reports")}
    assert {"dvc.lock", "params.json", "reports"} == top
    names = ("latency.json", "metrics.json", "plots", "robustness.json", "training.json", "verdict.json")
    assert {f"reports/{name}" for name in names} == below


def test_recording_twice_adds_nothing(session: Session, run_id: str, reports: Path) -> None:
    """A retried task does not double the curves, nor stumble over params that are there."""
    for _ in range(2):
        runs.record(session, run_id, {"seed": 0})
    points = session.client.get_metric_history(run_id, "curve/val_accuracy")
    assert [(1, 0.5), (2, 0.7)] == [(point.step, point.value) for point in points]


def test_no_secret_reaches_the_run(session: Session, run_id: str, reports: Path, workspace: Path) -> None:
    """Neither a webhook nor credentials in a URL are found anywhere in the store."""
    runs.record(session, run_id, {"notify": {"webhook": "https://hooks/s3cret"}, "uri": "http://me:s3cret@host/"})
    kept = [path for path in (workspace / ".graftline").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"s3cret" in path.read_bytes() or b"me:pw@" in path.read_bytes()]


def test_live_curves_follow_the_file(session: Session, run_id: str, tmp_path: Path) -> None:
    """Rows are logged as they come; a missing file and a half-written line are waited for; recording adds none."""
    live = tmp_path / "live.jsonl"
    curves = runs.LiveCurves(session, run_id, live)
    assert 0 == curves.update()
    first, second = (json.dumps(row) for row in HISTORY)
    live.write_text(f"{first}\n{second[:9]}", encoding="utf-8")
    assert 1 == curves.update()
    live.write_text(f"{first}\n{second}\n", encoding="utf-8")
    assert 1 == curves.update()
    runs.log_curves(session, run_id, HISTORY)
    assert [0.9, 0.4] == [point.value for point in session.client.get_metric_history(run_id, "curve/train_loss")]
    assert [2] == [point.step for point in session.client.get_metric_history(run_id, "curve/learning_rate")]


def test_the_run_names_the_revision(session: Session, workspace: Path) -> None:
    """In a git repository the commit and whether the tree differs from it are tags."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    (workspace / "params.yaml").write_text("seed: 0\n", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "params.yaml"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(workspace), *arguments], check=True)
    clean = session.client.get_run(runs.start(session, "digits")).data.tags
    (workspace / "params.yaml").write_text("seed: 1\n", encoding="utf-8")
    dirty = session.client.get_run(runs.start(session, "digits")).data.tags
    assert 40 == len(clean["mlflow.source.git.commit"])
    assert ("false", "true") == (clean["git_dirty"], dirty["git_dirty"])


def test_closing_says_how_it_ended(session: Session, run_id: str) -> None:
    """A run that failed is FAILED, with the tags that are known."""
    runs.finish(session, run_id, failed=True, tags={"outcome": "held"})
    run = session.client.get_run(run_id)
    assert ("FAILED", "held") == (run.info.status, run.data.tags["outcome"])


def test_report_is_read_back(session: Session, run_id: str, reports: Path) -> None:
    """A report comes back as it was logged; one that is not there is empty."""
    runs.record(session, run_id, {})
    assert {"p50_ms": 1.5} == runs.read_report(session, run_id, "latency")
    assert {} == runs.read_report(session, run_id, "validation")


def test_reading_a_report_leaves_nothing_behind(
    session: Session, run_id: str, reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow downloads into a temporary folder of its own, which nobody removes, unless it is told where."""
    runs.record(session, run_id, {})
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert {"p50_ms": 1.5} == runs.read_report(session, run_id, "latency")
    assert [] == list((tmp_path / "temporary").iterdir())


def test_runs_that_were_killed_are_closed(session: Session) -> None:
    """Only those that this workspace opened and did not close; asking again finds none."""
    killed, finished = (runs.start(session, "digits") for _ in range(2))
    runs.finish(session, finished)
    foreign = session.client.create_run(session.experiment_id).info.run_id
    assert {killed} == runs.open_runs(session.workspace)
    assert [[killed], []] == [runs.close_killed(session), runs.close_killed(session)]
    infos = {run_id: session.client.get_run(run_id) for run_id in (killed, finished, foreign)}
    assert ["KILLED", "FINISHED", "RUNNING"] == [run.info.status for run in infos.values()]
    assert "killed" == infos[killed].data.tags["outcome"]


def test_run_of_another_store_is_forgotten(session: Session) -> None:
    """The tracking store was changed since: there is nothing to close."""
    (session.workspace / runs.OPEN).write_text('["0123456789abcdef0123456789abcdef"]', encoding="utf-8")
    assert [] == runs.close_killed(session)
    assert set() == runs.open_runs(session.workspace)


# -- opening and closing -----------------------------------------------------------------------------------------------


def test_a_run_says_what_made_it(session: Session) -> None:
    """Named by the model and the local time of its beginning, under Graftline's name, with the key it is found by."""
    started_ms = 1_700_000_000_123
    run_id = runs.create(session, "digits", key="k1", code={"git_dirty": "false"}, started_ms=started_ms)
    run = session.client.get_run(run_id)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started_ms // 1000))
    assert (f"digits {at}", started_ms, "RUNNING") == (run.info.run_name, run.info.start_time, run.info.status)
    assert session.experiment_id == run.info.experiment_id
    tags = {name: run.data.tags[name] for name in ("model", "graftline.key", "git_dirty")}
    assert {"model": "digits", "graftline.key": "k1", "git_dirty": "false"} == tags
    assert ("graftline", "JOB") == (run.data.tags["mlflow.source.name"], run.data.tags["mlflow.source.type"])


def test_a_key_opens_one_run(session: Session) -> None:
    """Asked again it is the same one; another key makes another."""
    ids = [runs.create(session, "digits", key=key, code={}, started_ms=1) for key in ("a", "b", "a", "b")]
    assert ids[:2] == ids[2:]
    assert 2 == len(set(ids))


def test_starting_remembers_what_is_open(session: Session) -> None:
    """Until it is closed; the key of an opening whose answer was lost is used again, and then no more."""
    (session.workspace / runs.OPENING).write_text("lost", encoding="utf-8")
    before_ms = int(time.time() * 1000)
    first = runs.start(session, "digits")
    assert first == runs.create(session, "digits", key="lost", code={}, started_ms=1)
    assert before_ms <= session.client.get_run(first).info.start_time <= time.time() * 1000
    assert "digits" == session.client.get_run(first).data.tags["model"]
    assert not (session.workspace / runs.OPENING).exists()
    second = runs.start(session, "digits")
    assert {first, second} == runs.open_runs(session.workspace)
    runs.finish(session, first)
    assert {second} == runs.open_runs(session.workspace)
    runs.forget_open(session.workspace, None)
    assert {second} == runs.open_runs(session.workspace)


@pytest.mark.parametrize("content", [None, "half of a li", ""])
def test_a_list_of_open_runs_that_cannot_be_read_is_empty(workspace: Path, content: str | None) -> None:
    if content is not None:
        (workspace / runs.OPEN).write_text(content, encoding="utf-8")
    assert set() == runs.open_runs(workspace)


def test_a_run_is_known_unless_it_is_deleted_or_of_another_store(session: Session, run_id: str) -> None:
    assert runs.is_known(session, run_id) is True
    session.client.delete_run(run_id)
    assert runs.is_known(session, run_id) is False
    assert runs.is_known(session, "0" * 32) is False


def test_a_deleted_run_is_not_closed_as_killed(session: Session, run_id: str) -> None:
    """It counted as running, but nobody wants it; those after it are closed all the same."""
    others = [runs.start(session, "digits") for _ in range(2)]
    session.client.delete_run(run_id)
    (session.workspace / runs.OPEN).write_text(json.dumps([run_id, "0" * 32, *others]), encoding="utf-8")
    assert sorted(others) == runs.close_killed(session)
    assert "outcome" not in session.client.get_run(run_id).data.tags


def test_a_run_that_ended_well_keeps_the_page(session: Session, workspace: Path) -> None:
    """And its end; a failed run's page would be of another run."""
    write(workspace / "report/index.html", "<p>")
    ids = {failed: runs.start(session, "digits") for failed in (False, True)}
    for failed, run_id in ids.items():
        runs.finish(session, run_id, failed=failed, ended_ms=1_700_000_000_000)
    infos = {failed: session.client.get_run(run_id).info for failed, run_id in ids.items()}
    assert [("FINISHED", 1_700_000_000_000), ("FAILED", 1_700_000_000_000)] == [
        (info.status, info.end_time) for info in infos.values()
    ]
    kept = {failed: [item.path for item in session.client.list_artifacts(ids[failed], "report")] for failed in ids}
    assert {False: ["report/index.html"], True: []} == kept


def test_tags_hold_no_secret(session: Session, run_id: str) -> None:
    """Whatever their kind, they are text."""
    runs.tag(session, run_id, {"where": "https://me:pw@h/x", "count": 3})
    tags = session.client.get_run(run_id).data.tags
    assert ("https://***@h/x", "3") == (tags["where"], tags["count"])


@pytest.mark.parametrize(
    ("ask", "does"),
    [
        (lambda session: runs.create(session, "digits", key="no'key", code={}, started_ms=1), "start a run"),
        (lambda session: runs.tag(session, "0" * 32, {"a": "b"}), "tag the run"),
        (lambda session: runs.finish(session, "0" * 32), "close the run"),
        (lambda session: runs.record(session, "0" * 32, {}), "record the run"),
        (lambda session: runs.log_curves(session, "0" * 32, HISTORY), "log the curves"),
        (lambda session: runs.is_known(session, ""), "find a run"),
    ],
)
def test_what_mlflow_refuses_is_told_in_words(session: Session, ask: object, does: str) -> None:
    with pytest.raises(StoreError, match=f"MLflow did not {does}: "):
        ask(session)


# -- what is logged ----------------------------------------------------------------------------------------------------


def test_what_is_too_long_or_too_much_for_one_request(session: Session, run_id: str) -> None:
    """MLflow takes a hundred params at once, keys of 250 characters and values of 6,000."""
    params = {"many": {f"p{number:03d}": number for number in range(205)}, "k" * 300: 1, "text": "v" * 7000}
    runs.record(session, run_id, params)
    kept = session.client.get_run(run_id).data.params
    assert 207 == len(kept)
    assert ("204", "1", "v" * 6000) == (kept["many.p204"], kept["k" * 250], kept["text"])


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 205])
def test_each_item_is_in_one_batch(count: int) -> None:
    """In their order, up to a hundred in each: a point that is sent twice stands twice in MLflow."""
    batches = list(runs._batches(list(range(count))))
    assert list(range(count)) == [item for batch in batches for item in batch]
    assert -(-count // 100) == len(batches)


def test_nested_values_have_dotted_keys() -> None:
    """A list is one value, and so is an empty mapping that stands for something; an empty whole is nothing."""
    value = {"a": {"b": {"c": 1}, "d": [1, {"e": 2}], 3: {}}}
    assert [("a.b.c", 1), ("a.d", [1, {"e": 2}]), ("a.3", {})] == list(runs.flatten(value))
    assert [] == list(runs.flatten({}))


def test_numbers_of_a_report() -> None:
    """Finite ones, whole ones too, as floats; what is true or false is no figure."""
    report = {"a": 1, "b": {"c": 0.5}, "d": True, "e": "1", "f": [1], "g": None, "h": math.inf, "i": math.nan}
    assert [("a", 1.0), ("b.c", 0.5)] == runs._numbers(report)


def test_a_figure_that_changed_replaces_the_old_one(
    session: Session, run_id: str, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on after a failure has other figures, also where the clock was set back meanwhile; one that is
    the same is not logged twice."""
    runs.record(session, run_id, {"seed": 0})
    monkeypatch.setattr(runs.time, "time", lambda: 1_500_000_000.0)
    write(reports / "reports/metrics.json", {"accuracy": 0.95, "classes": {"a+b": {"recall": 1}}})
    runs.record(session, run_id, {"seed": 1})
    data = session.client.get_run(run_id).data
    assert (0.95, "0") == (data.metrics["accuracy"], data.params["seed"])
    points = {key: session.client.get_metric_history(run_id, key) for key in ("accuracy", "classes.a_b.recall")}
    assert [[0.91, 0.95], [1.0]] == [[point.value for point in found] for found in points.values()]
    assert points["accuracy"][0].timestamp < points["accuracy"][1].timestamp
    assert {0} == {point.step for found in points.values() for point in found}


def test_costs_are_named_by_stage(session: Session, run_id: str, reports: Path) -> None:
    """A stage that was found unchanged has told no memory."""
    write(reports / ".graftline/costs/export.json", {"stage": "export", "seconds": 2})
    runs.record(session, run_id, {})
    metrics = session.client.get_run(run_id).data.metrics
    costs = {name: value for name, value in metrics.items() if name.startswith("cost/")}
    assert {"cost/train/seconds": 12.5, "cost/train/peak_mb": 300.0, "cost/export/seconds": 2.0} == costs


def test_the_verdict_names_every_gate_that_failed(session: Session, run_id: str, workspace: Path) -> None:
    failed = [{"gate": name, "passed": False} for name in ("latency", "parity")]
    for findings, expected in ((failed, ("failed", "latency, parity")), ([], ("passed", ""))):
        write(workspace / "reports/verdict.json", {"passed": not findings, "findings": findings})
        runs.record(session, run_id, {})
        tags = session.client.get_run(run_id).data.tags
        assert expected == (tags["verdict"], tags["gates_failed"])


def test_a_workspace_without_anything_is_recorded_too(session: Session, run_id: str) -> None:
    """A run that failed at its first stage keeps its params."""
    runs.record(session, run_id, {"seed": 0})
    run = session.client.get_run(run_id)
    assert ({"seed": "0"}, {}) == (run.data.params, run.data.metrics)
    assert not {"verdict", "mlflow.loggedArtifacts"} & set(run.data.tags)
    assert ["params.json"] == [item.path for item in session.client.list_artifacts(run_id)]


def test_what_auto_tried_is_a_table(session: Session, run_id: str, workspace: Path) -> None:
    """One row per candidate, which MLflow's pages show; guards stand in one cell."""
    tried = [
        {"strategy": "probe", "seed": 0, "val_accuracy": 0.9, "guards": {"finite": True}},
        {"strategy": "lp_ft", "seed": 0, "val_accuracy": 0.8},
    ]
    for candidates in (tried[:1], tried):
        write(workspace / "reports/training.json", {"history": [], "candidates": candidates})
        runs.record(session, run_id, {})
    [place] = json.loads(session.client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert {"path": "tables/candidates.json", "type": "table"} == place
    from mlflow.artifacts import load_text

    run = session.client.get_run(run_id)
    table = json.loads(load_text(f"{run.info.artifact_uri}/tables/candidates.json"))
    assert ["strategy", "seed", "val_accuracy", "guards"] == table["columns"]
    assert [["probe", 0, 0.9, '{"finite": true}'], ["lp_ft", 0, 0.8, "{}"]] == table["data"]


def test_params_and_lock_are_kept_as_people_read_them(session: Session, run_id: str, reports: Path) -> None:
    """Without secrets, indented; a value that JSON does not know as it prints."""
    from mlflow.artifacts import load_text

    (reports / "dvc.lock").write_text("ä: https://me:pw@host/x\n", encoding="utf-8")
    runs.record(session, run_id, {"path": Path("a/b"), "token": "t", "seed": 0})
    place = session.client.get_run(run_id).info.artifact_uri
    assert '{\n  "path": "a/b",\n  "token": "***",\n  "seed": 0\n}' == load_text(f"{place}/params.json")
    assert "ä: https://***@host/x\n" == load_text(f"{place}/dvc.lock")
    below = {item.path for item in session.client.list_artifacts(run_id, "reports/plots")}
    assert {"reports/plots/confusion.csv"} == below


def test_curves_leave_the_axes_out(session: Session, run_id: str) -> None:
    """Each figure of each epoch at its row, from 1; the phase's own count of epochs is no figure."""
    runs.log_curves(session, run_id, HISTORY)
    metrics = set(session.client.get_run(run_id).data.metrics)
    assert {"curve/train_loss", "curve/val_accuracy", "curve/learning_rate"} == metrics
    points = session.client.get_metric_history(run_id, "curve/train_loss")
    assert [(1, 0.9), (2, 0.4)] == [(point.step, point.value) for point in points]
    assert abs(points[0].timestamp - time.time() * 1000) < 300_000


def test_curves_that_begin_again_are_no_error(session: Session, run_id: str, tmp_path: Path) -> None:
    """Training that was killed starts its file anew: fewer rows than before are nothing new, later ones are."""
    live = tmp_path / "live.jsonl"
    rows = [json.dumps(row) for row in HISTORY]
    live.write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    curves = runs.LiveCurves(session, run_id, live)
    updates = [curves.update(), curves.update()]
    live.write_text(f"{rows[0]}\n", encoding="utf-8")
    updates.append(curves.update())
    live.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert [2, 0, 0, 1] == [*updates, curves.update()]
    assert 2 == len(session.client.get_metric_history(run_id, "curve/train_loss"))


# -- what is read from the workspace -----------------------------------------------------------------------------------


def test_outside_a_repository_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where git is not installed, or hangs: a run is recorded all the same."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert {} == runs.code(tmp_path)
    asked: list[dict] = []

    def hang(command: list[str], **options: object) -> object:
        asked.append(options)
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(runs.subprocess, "run", hang)
    assert "" == runs.ask_git(tmp_path, "rev-parse", "HEAD")
    assert 20 == asked[0]["timeout"]
    monkeypatch.undo()
    monkeypatch.setenv("PATH", os.devnull)
    assert "" == runs.ask_git(tmp_path, "rev-parse", "HEAD")


def test_the_data_have_an_identity(workspace: Path, reports: Path) -> None:
    """That of the manifests there are."""
    target = workspace / "data/manifest/target.parquet"
    assert CATALOG["target_manifest"].path == target.relative_to(workspace).as_posix()
    before = runs.data_digest(workspace)
    assert digests.of_json({"data/target_manifest_sha256": digests.of_file(target)}) == before
    target.write_bytes(b"other rows")
    assert before != runs.data_digest(workspace)


def test_every_file_that_is_read_is_known(workspace: Path, reports: Path) -> None:
    """By its place, so that it can be kept for later; what is not there is left out."""
    write(workspace / "report/index.html", "<p>")
    write(workspace / "models/other.json", "is not read")
    expected = {
        *("reports/metrics.json", "reports/latency.json", "reports/robustness.json", "reports/training.json"),
        *("reports/verdict.json", "reports/plots/confusion.csv", "report/index.html", "dvc.lock"),
        *(".graftline/costs/train.json", "data/manifest/target.parquet"),
    }
    found = runs.recorded_files(workspace)
    assert expected == {path.relative_to(workspace).as_posix() for path in found}
    assert sorted(found) == found
