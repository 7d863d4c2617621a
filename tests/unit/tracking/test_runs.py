"""What an MLflow run keeps of a flow run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

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
