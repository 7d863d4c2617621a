"""A clock that is set back between runs: what came when is told by sequence numbers, and every choice goes by them."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from integration_tools import migrated_store
from release_toys import check_agreed, import_once, toys, train_in

from pipeline.cli import main
from pipeline.release import history, steps
from pipeline.release.history import History
from pipeline.tracking import runs
from pipeline.tracking.session import open_session

SETTINGS = toys.SETTINGS
FIRST = datetime(2030, 1, 1, tzinfo=UTC)
STEP_BACK = timedelta(days=400)
"""Each time the clock is asked, it is more than a year earlier."""


class BackwardsClock(datetime):
    """Stands for ``datetime`` in the history."""

    asked = 0

    @classmethod
    def now(cls, tz: Any = None) -> BackwardsClock:
        cls.asked += 1
        return cls.fromtimestamp((FIRST - cls.asked * STEP_BACK).timestamp(), tz)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_once()
    return migrated_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def workspace(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every time that is written down, by the history, by MLflow's client and by its store, runs backwards."""
    import mlflow.store.model_registry.sqlalchemy_store as versions_store

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "w"
    (folder / ".graftline").mkdir(parents=True)
    (folder / "params.yaml").write_text("model: digits\n")
    shutil.copyfile(store, folder / ".graftline/mlflow.db")
    monkeypatch.setattr(BackwardsClock, "asked", 0)
    monkeypatch.setattr(history, "datetime", BackwardsClock)
    milliseconds = lambda: int(BackwardsClock.now(UTC).timestamp() * 1000)  # noqa: E731
    monkeypatch.setattr(versions_store, "get_current_time_millis", milliseconds)
    monkeypatch.setattr(runs.time, "time", lambda: milliseconds() / 1000)
    return folder


def release(workspace: Path, bias: float, *, passed: bool = True) -> Any:
    train_in(workspace)(bias, passed=passed)
    return toys.release(workspace)


def test_the_history_is_in_the_order_of_what_happened(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``graftline history`` tells v1, v2, v3 and the rollback in this order, though each says an earlier time."""
    for bias in (0.1, 0.2, 0.3):
        release(workspace, bias)
    steps.rollback(workspace, SETTINGS, reason="complaints")
    entries = History(workspace).entries
    times = [entry.time for entry in entries]
    assert times == sorted(set(times), reverse=True), "the clock did not run backwards"
    monkeypatch.setattr("sys.argv", ["graftline", "history", "-C", str(workspace)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = [line.split("  ")[-1].split(" · ")[0] for line in capsys.readouterr().out.splitlines()]
    assert [
        "promoted digits v1",
        "promoted digits v2 (before: v1)",
        "promoted digits v3 (before: v2)",
        "rolled back to digits v2 (before: v3)",
    ] == told
    champion = History(workspace).last_champion("digits")
    assert champion is not None
    assert champion.champion_line.startswith("digits v2 since ")


def test_a_rollback_chooses_the_champion_before(workspace: Path) -> None:
    """And not the one with the time before: from v3 to v2, then to v1."""
    for bias in (0.1, 0.2, 0.3):
        release(workspace, bias)
    for version in (2, 1):
        steps.rollback(workspace, SETTINGS, reason="complaints")
        assert version == toys.aliases(workspace)["champion"]
        check_agreed(workspace)


def test_versions_are_listed_in_the_order_of_their_numbers(workspace: Path) -> None:
    """Also where the store says that the later one was made earlier."""
    for bias in (0.1, 0.2):
        release(workspace, bias)
    first, second = toys.registry(workspace).versions()
    assert first.created > second.created
    assert (1, 2) == (first.number, second.number)
    assert [line.split()[1] for line in steps.version_lines(workspace, SETTINGS)] == ["v1", "v2"]


def test_what_was_decided_stays_decided(workspace: Path) -> None:
    """An unchanged run and a rolled back one are recognised; a hold is told after what came before it."""
    release(workspace, 0.1)
    release(workspace, 0.2)
    assert "unchanged" == toys.release(workspace).kind
    steps.rollback(workspace, SETTINGS, reason="complaints")
    assert ("unchanged", 1) == (toys.release(workspace).kind, toys.aliases(workspace)["champion"])
    release(workspace, 0.3, passed=False)
    assert [("promoted", 1), ("promoted", 2), ("rolled_back", 1), ("held", 3)] == toys.actions(workspace)
    assert [1, 2, 3, 4] == [entry.sequence for entry in History(workspace).entries]


def test_the_figures_of_the_last_record_are_shown(workspace: Path) -> None:
    """A record that is sent again with another figure: MLflow shows the one that was sent last."""
    session = open_session(workspace, SETTINGS.tracking.uri, "graftline")
    run_id = runs.start(session, "digits")
    for accuracy in (0.9, 0.7):
        toys.write(workspace / "reports/metrics.json", {"accuracy": accuracy})
        runs.record(session, run_id, {})
    assert 0.7 == session.client.get_run(run_id).data.metrics["accuracy"]
