"""A rollback beside a promotion, for real: two processes at once; and the rehearsal of both, there and back again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from release_toys import Ready, at_once, check_agreed, import_once, in_child, toys, train_in, wait_before
from tally import Tally

from pipeline.core import digests
from pipeline.core.errors import ChampionMovedError
from pipeline.flow_params import Tracking
from pipeline.release import moves, steps
from pipeline.release.history import History
from pipeline.tracking.registry import Registry
from pipeline.tracking.session import open_session

SETTINGS = toys.SETTINGS
FEW, MANY = 2, 20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v2 is champion after v1; v3 is held."""
    import_once()
    folder = tmp_path_factory.mktemp("world")
    (folder / "base/.graftline").mkdir(parents=True)

    def make() -> None:
        train = train_in(folder / "base")
        for bias, passed in ((0.1, True), (0.2, True), (0.3, False)):
            train(bias, passed=passed)
            toys.release(folder / "base")

    assert in_child(make, folder / "log") == 0, (folder / "log").read_text()
    return folder / "base"


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def rounds(few: int, many: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rounds", [few, pytest.param(many, marks=pytest.mark.faults)])


@rounds(FEW, MANY)
def test_in_one_workspace_one_comes_after_the_other(world: Path, tmp_path: Path, tally: Tally, rounds: int) -> None:
    """The promotion is rolled back, or it comes after the rollback: both have happened, and everything agrees."""
    orders = []
    for number in range(rounds):
        tally.tried("races")
        copy = Path(shutil.copytree(world, tmp_path / str(number), symlinks=True))

        def promote(ready: Ready, copy: Path = copy) -> str:
            ready()
            return steps.promote_version(copy, SETTINGS, 3, reason="by hand")

        def roll_back(ready: Ready, copy: Path = copy) -> str:
            ready()
            return steps.rollback(copy, SETTINGS, reason="complaints")

        said = at_once([promote, roll_back] if number % 2 else [roll_back, promote], tmp_path / "log")

        def check(copy: Path = copy) -> None:
            check_agreed(copy)
            assert toys.actions(copy)[3:] in (
                [("promoted", 3), ("rolled_back", 2)],
                [("rolled_back", 1), ("promoted", 3)],
            )

        assert in_child(check, tmp_path / "log") == 0, f"{said}: {(tmp_path / 'log').read_text()}"
        orders.append(History(copy).entries[-1].action)
        tally.held("races")
    print({action: orders.count(action) for action in set(orders)})


@rounds(FEW, MANY)
def test_in_two_workspaces_only_one_starts_from_a_champion(
    world: Path, tmp_path: Path, tally: Tally, rounds: int
) -> None:
    """Whoever comes second is told that the champion is another, and has changed nothing."""
    for number in range(rounds):
        tally.tried("races")
        shared = tmp_path / f"shared {number}.db"
        shutil.copyfile(world / ".graftline/mlflow.db", shared)
        settings = SETTINGS.model_copy(update={"tracking": Tracking(uri=f"sqlite:///{shared}")})
        here, there = (Path(shutil.copytree(world, tmp_path / f"{name} {number}", symlinks=True)) for name in "ab")
        works = [
            contender(lambda here=here: steps.promote_version(here, settings, 3, reason="by hand")),  # noqa: B023
            contender(lambda there=there: steps.rollback(there, settings, reason="complaints")),  # noqa: B023
        ]
        promoted, rolled_back = at_once(works, tmp_path / "log")
        assert [promoted, rolled_back].count("v2 as champion of 'digits', the one this was decided against") == 1

        won = str(promoted).startswith("champion")

        def check(settings: Any = settings, won: bool = won, here: Path = here) -> None:
            opened = open_session(here, settings.tracking.uri, settings.tracking.experiment)
            versions = Registry(opened, settings.model).versions()
            aliases = {alias: version.number for version in versions for alias in version.aliases}
            assert aliases == ({"champion": 3, "previous": 2} if won else {"champion": 1, "challenger": 3})

        assert in_child(check, tmp_path / "log") == 0, (tmp_path / "log").read_text()
        assert {4, 3} == {len(History(place).entries) for place in (here, there)}
        assert not [place for place in (here, there) if (place / moves.FILE).exists()]
        tally.held("races")


def contender(work: Callable[[], str]) -> Callable[[Ready], str]:
    """Work whose aliases move when the other's would; returns what it said, or what it had expected to find."""

    def compete(ready: Ready) -> str:
        wait_before("crown", ready)
        try:
            return work()
        except ChampionMovedError as error:
            return error.expected

    return compete


def test_the_rehearsal_there_and_back_again(world: Path, tmp_path: Path) -> None:
    """Promote, roll back, roll forward, roll back: the hand-off is byte for byte what it was each time, the history has
    every step, and a run in between does not undo what a person decided."""
    copy = Path(shutil.copytree(world, tmp_path / "copy", symlinks=True))

    def rehearse() -> None:
        contents = {number: digests.of_path(copy / f"handoff/v{number}") for number in (1, 2)}
        steps.rollback(copy, SETTINGS, reason="complaints")
        assert ("v1", contents[1]) == (toys.pointed(copy), digests.of_path(copy / "handoff/current"))
        check_agreed(copy)
        line = steps.promote_version(copy, SETTINGS, 2, reason="they were wrong")
        assert "champion digits v2 (before: v1) · handoff/v2" == line
        assert ("v2", contents[2]) == (toys.pointed(copy), digests.of_path(copy / "handoff/current"))
        check_agreed(copy)
        steps.rollback(copy, SETTINGS, reason="they were right")
        train_in(copy)(0.2)
        assert ("unchanged", 1) == (toys.release(copy).kind, toys.aliases(copy)["champion"])
        check_agreed(copy)
        actions = [("rolled_back", 1), ("promoted", 2), ("rolled_back", 1)]
        assert actions == toys.actions(copy)[3:]
        assert list(range(1, 7)) == [entry.sequence for entry in History(copy).entries]

    assert in_child(rehearse, tmp_path / "log") == 0, (tmp_path / "log").read_text()
