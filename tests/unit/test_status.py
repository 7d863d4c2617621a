"""``graftline status``: what is said of a workspace, to people and to programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import params, workspace
from pipeline.catalog import CATALOG
from pipeline.cli.program import main
from pipeline.core import lock
from pipeline.core.errors import BusyError
from pipeline.gates._base import Finding, Verdict
from pipeline.graph import torn
from pipeline.release import decide
from pipeline.release.history import History
from pipeline.status import Status, status_of


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which nothing has run; git and DVC are not called."""
    monkeypatch.setattr(workspace, "_call", lambda command, folder: None)
    folder = tmp_path / "new"
    list(workspace.create(folder, target=None, source=None, preset="digits", version_data=False))
    return folder


@pytest.fixture
def up_to_date(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stages have made a model and a verdict that all gates passed."""
    monkeypatch.setattr("pipeline.graph.through_dvc.stale", lambda folder, **_: {})
    (fresh / torn.LOCK).write_text("")
    model = fresh / CATALOG["model"].path
    model.parent.mkdir(parents=True)
    model.write_bytes(b"a model")
    give_verdict(fresh, passed=True)
    return fresh


def give_verdict(folder: Path, *, passed: bool) -> None:
    path = folder / CATALOG["verdict"].path
    path.parent.mkdir(parents=True, exist_ok=True)
    finding = Finding(gate="accuracy_floor", passed=passed, observed="0.50", required="0.70", why="0.50 for 0.70")
    Verdict(passed=passed, findings=[finding]).save(path)


def decided(folder: Path, action: Any, version: int) -> None:
    """As the release would write it, on what the stages made."""
    found = decide.judged(folder)
    History(folder).append(
        model="digits",
        action=action,
        version=version,
        previous=None,
        reason=found.reason,
        model_sha256=found.sha256,
        verdict_digest=found.digest,
    )


def lines(folder: Path) -> list[str]:
    return list(status_of(folder).lines)


def test_a_fresh_workspace(tmp_path: Path) -> None:
    """Nothing was deleted or modified in it, as DVC would have it."""
    list(workspace.create(tmp_path / "new", target=None, source=None, preset="digits", version_data=False))
    assert ["stages     none has run yet", "champion   none yet", "next       graftline run"] == lines(tmp_path / "new")


def test_a_dvc_yaml_out_of_step(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what mends it."""
    monkeypatch.setattr("pipeline.graph.through_dvc.stale", lambda folder, **_: {})
    params.assign(fresh, ["ingest.source=null"])
    (fresh / "dvc.yaml").write_text("stages: {}\n")
    said = lines(fresh)
    assert "graftline render" in said[0]
    assert "stages     all up to date" == said[1]


def test_three_reasons_and_how_many_more(up_to_date: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each stale stage; what was decided on its old output is no longer said."""
    decided(up_to_date, "held", 1)
    monkeypatch.setattr(
        "pipeline.graph.through_dvc.stale", lambda folder, **_: {"ingest": list("abcde"), "train": ["x"]}
    )
    said = lines(up_to_date)
    assert ["ingest     stale: a, b, c and 2 more", "train      stale: x", "champion   none yet"] == said[:3]
    assert "next       graftline run" == said[-1]


@pytest.mark.parametrize("passed", [True, False])
def test_a_verdict_that_waits(up_to_date: Path, passed: bool) -> None:
    """As `dvc repro` leaves it."""
    give_verdict(up_to_date, passed=passed)
    told = "passed" if passed else "failed"
    assert f"verdict    {told}, and nothing decided on it yet" in lines(up_to_date)


def test_a_verdict_that_holds_until_somebody_promotes(up_to_date: Path) -> None:
    """The reason stays in sight as long as it is in force."""
    give_verdict(up_to_date, passed=False)
    decided(up_to_date, "held", 3)
    assert "verdict    v3 held · accuracy_floor: 0.50 for 0.70" in lines(up_to_date)
    History(up_to_date).append(
        model="digits", action="promoted", version=3, previous=None, reason="by hand", model_sha256="x"
    )
    assert status_of(up_to_date).is_overruled
    said = lines(up_to_date)
    assert not any(line.startswith("verdict") for line in said)
    assert any(line.startswith("champion   digits v3 since ") for line in said)
    assert "next       change the data or params.yaml, then graftline run" == said[-1]


def test_programs_get_the_same(up_to_date: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One JSON object with every field, decisions as the history has them."""
    decided(up_to_date, "promoted", 2)
    monkeypatch.setattr("sys.argv", ["graftline", "status", "--json", "-C", str(up_to_date)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    (line,) = capsys.readouterr().out.splitlines()
    entry = History(up_to_date).entries[-1].model_dump(mode="json")
    assert json.loads(line) == {
        "model": "digits",
        "in_step": True,
        "has_run": True,
        "running": None,
        "stale": {},
        "passed": True,
        "decided": entry,
        "is_overruled": False,
        "champion": entry,
        "next": "change the data or params.yaml, then graftline run",
    }


def test_programs_are_told_of_what_is_not_there(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, and not a missing field."""
    monkeypatch.setattr("pipeline.graph.through_dvc.stale", lambda folder, **_: {"ingest": ["deleted: x"]})
    record = status_of(fresh).record
    assert set(Status._fields) | {"next"} == set(record)
    assert (None, None, None, False) == tuple(record[name] for name in ("passed", "decided", "champion", "has_run"))
    assert {"ingest": []} == record["stale"], "that it was deleted is DVC's word for what never was there"


def test_beside_a_run_it_answers_at_once(up_to_date: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC, which the run holds, is not asked; nobody is told to start another run, nor of the verdict of the last."""
    decided(up_to_date, "promoted", 2)
    monkeypatch.setattr("pipeline.graph.through_dvc.stale", lambda folder, **_: pytest.fail("DVC was asked"))
    with lock.workspace_lock(up_to_date):
        said, record = lines(up_to_date), status_of(up_to_date).record
    assert f"stages     at work: another run (pid {os.getpid()}, since " in said[0]
    assert said[1].startswith("champion   digits v2")
    assert "next       wait until that is done" == said[2]
    assert (None, None, None) == (record["stale"], record["passed"], record["decided"])
    assert record["running"].startswith("another run (pid ")


def test_beside_a_dvc_command_it_answers_at_once(up_to_date: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's `dvc repro` or `dvc gc`: DVC is asked once, and is not waited for."""
    decided(up_to_date, "promoted", 2)

    def busy(folder: Path, *, wait: bool) -> Any:
        assert not wait
        raise BusyError("Another DVC command holds it")

    monkeypatch.setattr("pipeline.graph.through_dvc.stale", busy)
    assert [f"stages     at work: another DVC command holds {up_to_date}", "next       wait until that is done"] == [
        line for line in lines(up_to_date) if not line.startswith("champion")
    ]


def test_asking_takes_nobody_s_turn(up_to_date: Path) -> None:
    """The workspace is free again, and nothing was made where no run has ever been."""
    assert status_of(up_to_date).running is None
    assert not (up_to_date / lock.LOCK).exists()
    with lock.workspace_lock(up_to_date, emit=lambda line: pytest.fail(line)):
        assert lock.is_held(up_to_date)
    assert not lock.is_held(up_to_date)
