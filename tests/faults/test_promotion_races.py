"""Several workspaces promote the same model in one registry at the same moment, for real: processes that a barrier
releases together. Never two champions, never a lost record, and who comes second decides again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration_tools import migrated_store
from mlflow_server import MlflowServer
from release_toys import Ready, at_once, import_once, in_child, toys, train_in, wait_before
from tally import Tally

from pipeline.core.errors import ChampionMovedError
from pipeline.flow_params import Tracking
from pipeline.release import moves
from pipeline.release.decide import Outcome
from pipeline.release.history import Entry, History
from pipeline.tracking.registry import Registry
from pipeline.tracking.session import open_session

DEFAULT, MANY, ON_A_SERVER = 5, 50, 20
BEFORE = ("register", "promote", "crown")
"""Where the barrier stands, in turn."""


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    import_once()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; made in a child, so that no connection of it is ever shared by a fork."""
    folder = tmp_path_factory.mktemp("store")
    made = in_child(lambda: migrated_store(folder), folder / "log")
    assert made == 0, (folder / "log").read_text()
    return folder / "mlflow.db"


@pytest.fixture
def shared(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings of workspaces that share one sqlite database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copyfile(empty_store, tmp_path / "shared.db")
    return toys.SETTINGS.model_copy(update={"tracking": Tracking(uri=f"sqlite:///{tmp_path / 'shared.db'}")})


@pytest.fixture
def on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Settings of workspaces that share one MLflow server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with MlflowServer(tmp_path) as server:
        yield toys.SETTINGS.model_copy(update={"tracking": Tracking(uri=server.url)})


def a_run(workspace: Path, settings: Any, bias: float, step: str) -> Callable[[Ready], tuple[int, Outcome]]:
    """A retraining as ``graftline run`` does it: overtaken, it evaluates against the new champion and decides again.
    Returns how often it was overtaken, and how it ended."""

    def run(ready: Ready) -> tuple[int, Outcome]:
        toys.SETTINGS = settings  # the toy's training pins the champion of this registry
        train = train_in(workspace)
        train(bias)
        wait_before(step, ready)
        for overtaken in range(9):
            try:
                return overtaken, toys.release(workspace, settings)
            except ChampionMovedError:
                train(bias)
        raise AssertionError("overtaken again and again")

    return run


def race(workspaces: list[Path], settings: Any, races: int, log: Path, tally: Tally) -> Counter[int]:
    """That many races; after each, everything agrees. Returns how many runs were overtaken how often."""
    overtaken: Counter[int] = Counter()
    for number in range(races):
        step = BEFORE[number % len(BEFORE)]
        runs = [a_run(place, settings, bias=1 + number + lane / 10, step=step) for lane, place in enumerate(workspaces)]
        with tally("races"):
            ended = at_once(runs, log)
            overtaken.update(times for times, _ in ended)  # type: ignore[misc]
            assert ["promoted"] * len(ended) == [outcome.kind for _, outcome in ended]  # type: ignore[misc]
            told = in_child(lambda number=number: check(workspaces, settings, races=number + 1), log)
            assert told == 0, f"race {number}, before {step}: {log.read_text()}"
    return overtaken


def check(workspaces: list[Path], settings: Any, races: int) -> None:
    """One champion; the records of all workspaces together are one chain that ends with it; nothing is half done."""
    tracking = settings.tracking
    registry = Registry(open_session(workspaces[0], tracking.uri, tracking.experiment), settings.model)
    versions = registry.versions()
    aliases = {alias: version.number for version in versions for alias in version.aliases}
    entries = [entry for place in workspaces for entry in History(place).entries]
    assert len(workspaces) * races == len(entries) == len(versions)
    assert {version.number for version in versions} == {entry.version for entry in entries}
    chain = chained(entries)
    assert len(entries) == len(chain)
    assert chain[-2:] == [aliases.get("previous"), aliases["champion"]]
    for place in workspaces:
        assert not (place / moves.FILE).exists()
        assert toys.pointed(place) == f"v{History(place).entries[-1].version}"
        assert [] == History(place).unreadable


def chained(entries: list[Entry]) -> list[int]:
    """The champions one after the other: each record names the champion that it replaced."""
    after = {entry.previous: entry.version for entry in entries}
    chain: list[int] = []
    champion = after.get(None)
    while champion is not None:
        chain.append(champion)
        champion = after.get(champion)
    return chain


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    return places


@pytest.mark.parametrize("races", [DEFAULT, pytest.param(MANY, marks=[pytest.mark.faults, pytest.mark.timeout(1800)])])
def test_two_workspaces_promote_in_one_database(
    two: list[Path], shared: Any, tmp_path: Path, tally: Tally, races: int
) -> None:
    """Both end as promoted, one after the other: the second has compared with the first."""
    overtaken = race(two, shared, races, tmp_path / "log", tally)
    print(f"{races} races, runs by how often they were overtaken: {dict(overtaken)}")
    assert sum(count for times, count in overtaken.items() if times), "nobody ever came second: not a race"


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_two_workspaces_promote_on_one_server(two: list[Path], on_a_server: Any, tmp_path: Path, tally: Tally) -> None:
    """The same where the registry is a server, which no lock file reaches."""
    overtaken = race(two, on_a_server, ON_A_SERVER, tmp_path / "log", tally)
    print(f"{ON_A_SERVER} races, runs by how often they were overtaken: {dict(overtaken)}")
    assert sum(count for times, count in overtaken.items() if times), "nobody ever came second: not a race"
