"""SIGKILL between every two things that a promotion, a rollback or a hold does to the world, for real.

A child process does it and kills itself just before its n-th change; the next command, in another child, must find its
way: the champion in the registry, ``handoff/current`` and the history agree, and nothing was done twice.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from release_toys import check_agreed, import_once, in_child, toys, train_in
from tally import Tally

from pipeline.core import files
from pipeline.release import history, moves, steps
from pipeline.release import publish as handing_off
from pipeline.tracking.registry import Registry

Changes = tuple[tuple[Any, str], ...]

OF_A_MOVE: Changes = (
    (moves.Move, "save"),
    (Registry, "_point"),
    (handing_off, "_copy"),
    (handing_off, "_point"),
    (history, "_append_line"),
    (moves, "_forget"),
)
"""What a change of champion does: note, aliases, folder, pointer, history, and the note goes."""

EVERY: Changes = (
    (Registry, "_create"),
    (Registry, "_point"),
    (Registry, "tag"),
    (Registry, "untag"),
    (files, "_put_in_place"),
    (history, "_append_line"),
    (moves, "_forget"),
)
"""Everything that others can see, down to each file."""


SETTINGS = toys.SETTINGS


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def promote_by_verdict(workspace: Path) -> None:
    toys.release(workspace)


def promote_by_hand(workspace: Path) -> None:
    steps.promote_version(workspace, SETTINGS, 3, reason="by hand")


def roll_back(workspace: Path) -> None:
    steps.rollback(workspace, SETTINGS, reason="complaints")


def hold(workspace: Path) -> None:
    toys.release(workspace)


# -- children ----------------------------------------------------------------------------------------------------------


def kill_at(number: int, changes: Changes) -> None:
    """From now on this process kills itself before its ``number``-th change."""
    count = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **named)

        return do

    for owner, name in changes:
        setattr(owner, name, counted(getattr(owner, name)))


def kills(workspace: Path, work: Callable[[Path], None], changes: Changes, scratch: Path) -> Iterator[tuple[int, Path]]:
    """A copy of the workspace for each change that ``work`` makes, in which it was killed just before that change."""
    for number in range(1, 100):
        copy = scratch / f"killed {number}"
        shutil.copytree(workspace, copy, symlinks=True)

        def killed(number: int = number, copy: Path = copy) -> None:
            kill_at(number, changes)
            work(copy)

        code = in_child(killed, scratch / "log")
        if code == 0:
            return  # it makes no more than that
        assert code == -signal.SIGKILL, (scratch / "log").read_text()
        yield number, copy
        shutil.rmtree(copy)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """v2 is champion after v1. In ``good`` the stages have left a model that passes, in ``bad`` one that fails, and in
    ``held`` the latter was held as v3."""
    import_once()
    folder = tmp_path_factory.mktemp("worlds")
    base = folder / "base"
    (base / ".graftline").mkdir(parents=True)

    def make() -> None:
        train = train_in(base)
        for bias in (0.1, 0.2):
            train(bias)
            toys.release(base)
        for name, passed in (("good", True), ("bad", False)):
            train(0.3, passed=passed)
            shutil.copytree(base, folder / name, symlinks=True)
        shutil.copytree(folder / "bad", folder / "held", symlinks=True)
        toys.release(folder / "held")

    assert in_child(make, folder / "log") == 0, (folder / "log").read_text()
    return {name: folder / name for name in ("good", "bad", "held")}


CASES = [
    ("good", promote_by_verdict, [("promoted", 3)]),
    ("held", promote_by_hand, [("held", 3), ("promoted", 3)]),
    ("good", roll_back, [("rolled_back", 1)]),
    ("bad", hold, [("held", 3)]),
]
IN_FULL = [pytest.param(*case, EVERY, marks=pytest.mark.faults) for case in CASES]


@pytest.mark.parametrize(
    ("world", "work", "decisions", "changes"), [*[(*case, OF_A_MOVE) for case in CASES[:3]], *IN_FULL]
)
def test_repeating_what_was_killed_finishes_it(
    worlds: dict[str, Path],
    tmp_path: Path,
    world: str,
    work: Callable[[Path], None],
    decisions: list[tuple[str, int]],
    changes: Changes,
    tally: Tally,
) -> None:
    """Exactly once, however far it had got."""
    expected = [("promoted", 1), ("promoted", 2), *decisions]

    def repeat(copy: Path) -> None:
        work(copy)
        check_agreed(copy)
        assert expected == toys.actions(copy)

    last = 0
    for number, copy in kills(worlds[world], work, changes, tmp_path):
        with tally("kills"):
            assert in_child(lambda copy=copy: repeat(copy), tmp_path / "log") == 0, (
                f"killed before change {number}: {(tmp_path / 'log').read_text()}"
            )
        last = number
    assert last > 4, "nothing was killed: does the list of changes still name what is called?"


@pytest.mark.faults
@pytest.mark.parametrize(("world", "work"), [("good", promote_by_verdict), ("held", promote_by_hand)])
def test_other_data_after_a_killed_promotion(
    worlds: dict[str, Path], tmp_path: Path, world: str, work: Callable[[Path], None], tally: Tally
) -> None:
    """The next run brings another model, and holds it: the promotion has happened or it has not, nothing between; a
    rollback then goes to the champion before."""

    def next_run(copy: Path) -> None:
        train_in(copy)(0.4, passed=False)
        outcome = toys.release(copy)
        check_agreed(copy)
        assert "held" == outcome.kind
        promoted = ("promoted", 3) in toys.actions(copy)
        steps.rollback(copy, SETTINGS, reason="complaints")
        check_agreed(copy)
        assert toys.pointed(copy) == ("v2" if promoted else "v1")

    for number, copy in kills(worlds[world], work, OF_A_MOVE, tmp_path):
        with tally("kills"):
            assert in_child(lambda copy=copy: next_run(copy), tmp_path / "log") == 0, (
                f"killed before change {number}: {(tmp_path / 'log').read_text()}"
            )
