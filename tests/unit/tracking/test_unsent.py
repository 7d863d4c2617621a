"""What a run could not send: kept whole, sent once, in the order in which the runs ended."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.core.errors import StoreError
from pipeline.tracking import runs, unsent
from pipeline.tracking.session import Session

STARTED_S = 1_700_000_000.5


@pytest.fixture
def reports(workspace: Path) -> Path:
    (workspace / "reports").mkdir()
    (workspace / "reports/metrics.json").write_text(json.dumps({"accuracy": 0.9}), encoding="utf-8")
    (workspace / "dvc.lock").write_text("stages\n", encoding="utf-8")
    (workspace / ".graftline/costs").mkdir()
    (workspace / ".graftline/costs/train.json").write_text('{"stage": "train", "seconds": 2}', encoding="utf-8")
    return workspace


def kept(workspace: Path, run_id: str | None = None, **fields: object) -> Path:
    given = {"model": "digits", "started_s": STARTED_S, "failed": False, "tags": {}, "params": {}, **fields}
    return unsent.keep(workspace, run_id=run_id, **given)


def run_of(session: Session, run_id: str) -> tuple[str, dict[str, str], dict[str, float]]:
    run = session.client.get_run(run_id)
    return run.info.status, run.data.tags, run.data.metrics


def test_what_is_kept_is_what_will_be_sent(reports: Path) -> None:
    """Copies of the reports under their own names, and about.json, with the times in milliseconds; no secret."""
    before_ms = int(time.time() * 1000)
    place = kept(
        reports,
        "abc",
        failed=True,
        tags={"outcome": "held", "where": "https://me:pw@h", "version": 3},
        params={"notify": {"webhook": "https://hooks/T0"}},
    )
    about = unsent.About.load(place / "about.json")
    assert place == reports / ".graftline/unsent" / about.key
    assert ("abc", "digits", 1_700_000_000_500, True) == (about.run_id, about.model, about.started_ms, about.failed)
    assert before_ms <= about.ended_ms <= time.time() * 1000
    assert {"outcome": "held", "where": "https://***@h", "version": "3"} == about.tags
    assert {"notify": {"webhook": "***"}} == about.params
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert {"about.json", "dvc.lock", "reports/metrics.json", ".graftline/costs/train.json"} == files
    assert (place / "about.json").read_text(encoding="utf-8").startswith('{\n  "key"')


def test_runs_wait_in_the_order_in_which_they_ended(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not whole is none of ours, and does not hide the others."""
    assert [] == unsent.waiting(workspace)
    places = []
    for ended_s in (30.0, 10.0, 20.0):
        monkeypatch.setattr(unsent.time, "time", lambda ended_s=ended_s: ended_s)
        places.append(kept(workspace))
    for name, content in (("00", None), ("11", "half of an ab"), ("22", "{}")):
        (workspace / unsent.FOLDER / name).mkdir()
        if content is not None:
            (workspace / unsent.FOLDER / name / "about.json").write_text(content)
    assert [places[1], places[2], places[0]] == unsent.waiting(workspace)


def test_a_run_that_was_open_is_finished_as_what_it_was(session: Session, reports: Path) -> None:
    """With its figures, its outcome and its end; nothing waits any more and nothing is open."""
    run_id = runs.start(session, "digits")
    place = kept(reports, run_id, tags={"outcome": "promoted"}, params={"seed": 7})
    ended_ms = unsent.About.load(place / "about.json").ended_ms
    (reports / "reports/metrics.json").write_text(json.dumps({"accuracy": 0.1}), encoding="utf-8")  # of a later run
    assert [run_id] == unsent.send(session)
    status, tags, metrics = run_of(session, run_id)
    assert ("FINISHED", "promoted", 0.9) == (status, tags["outcome"], metrics["accuracy"])
    run = session.client.get_run(run_id)
    assert (ended_ms, {"seed": "7"}) == (run.info.end_time, run.data.params)
    assert ([], set(), []) == (unsent.waiting(reports), runs.open_runs(reports), unsent.send(session))
    assert not place.exists()


@pytest.mark.parametrize("run_id", [None, "0" * 32], ids=["never opened", "of another store"])
def test_a_run_that_this_store_does_not_know_is_opened(session: Session, reports: Path, run_id: str | None) -> None:
    """With the time of its beginning and the revision of that time, under a key: sent twice it is one run."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for arguments in (["init", "-q"], ["add", "dvc.lock"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(reports), *arguments], check=True)
    place = kept(reports, run_id, failed=True)
    revision = runs.code(reports)["mlflow.source.git.commit"]
    subprocess.run(["git", "-C", str(reports), *identity, "commit", "-q", "--allow-empty", "-m", "later"], check=True)
    key = unsent.About.load(place / "about.json").key
    [sent] = unsent.send(session)
    run = session.client.get_run(sent)
    assert ("FAILED", 1_700_000_000_500) == (run.info.status, run.info.start_time)
    assert ("digits", key) == (run.data.tags["model"], run.data.tags[runs.KEY_TAG])
    assert revision == run.data.tags["mlflow.source.git.commit"]
    assert sent == runs.create(session, "digits", key=key, code={}, started_ms=1)


def test_what_could_not_be_sent_stays(session: Session, reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is sent and gone, the second waits on; the next attempt sends it."""
    ids = []
    for ended_s in (10.0, 20.0):
        monkeypatch.setattr(unsent.time, "time", lambda ended_s=ended_s: ended_s)
        ids.append(runs.start(session, "digits"))
        kept(reports, ids[-1])
    finish = runs.finish

    def gone(session: Session, run_id: str, **named: object) -> None:
        if run_id == ids[1]:
            raise StoreError("no answer")
        finish(session, run_id, **named)

    monkeypatch.setattr(runs, "finish", gone)
    with pytest.raises(StoreError, match="no answer"):
        unsent.send(session)
    assert 1 == len(unsent.waiting(reports))
    monkeypatch.setattr(runs, "finish", finish)
    assert [ids[1]] == unsent.send(session)
