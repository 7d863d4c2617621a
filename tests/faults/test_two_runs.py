"""Two runs in one workspace at once, as when somebody types the command while the night's run is at work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from integration_tools import GRAFTLINE, environment

from pipeline import params
from pipeline.core.lock import HOLDER
from pipeline.graph import through_dvc
from pipeline.release.history import History
from pipeline.tracking.registry import CHAMPION, Registry
from pipeline.tracking.session import open_session

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

MORE = ("--set", "ingest.source.images_per_class=40")
"""Something to do: every stage is stale."""

PATIENCE_S = 120


def start(workspace: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*GRAFTLINE, "run", "--inline", *MORE, "-C", workspace],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)


def holds(workspace: Path, run: subprocess.Popen[str]) -> bool:
    """Does this run hold the workspace?"""
    try:
        return json.loads((workspace / HOLDER).read_text(encoding="utf-8"))["pid"] == run.pid
    except FileNotFoundError:
        return False


def check_one_more_version(workspace: Path) -> None:
    """v2 after v1, promoted once; DVC finds nothing to do."""
    tracking = params.load(workspace).tracking
    registry = Registry(open_session(workspace, tracking.uri, tracking.experiment), "digits")
    assert [1, 2] == [version.number for version in registry.versions()]
    assert 2 == registry.at(CHAMPION).number  # type: ignore[union-attr]
    assert [("promoted", 1), ("promoted", 2)] == [(entry.action, entry.version) for entry in History(workspace).entries]
    assert "v2" == os.readlink(workspace / "handoff/current")
    assert {} == through_dvc.stale(workspace)


def test_the_second_waits_and_then_finds_nothing_to_do(copy_of: Path) -> None:
    """Started together: one of them says for whom it waits, both end well, and there is one new version."""
    runs = [start(copy_of), start(copy_of)]
    said = [run.communicate(timeout=600)[0] for run in runs]
    assert [0, 0] == [run.returncode for run in runs], said
    waited = [number for number in (0, 1) if "Waiting: " in said[number]]
    assert 1 == len(waited), said
    second, first = waited[0], 1 - waited[0]
    assert f"Waiting: another run (pid {runs[first].pid}, since " in said[second]
    assert "nothing changed · champion digits v2" in said[second]
    assert "nothing changed" not in said[first]
    check_one_more_version(copy_of)
    assert not (copy_of / HOLDER).exists()


def test_the_second_takes_over_from_a_run_that_is_killed(copy_of: Path) -> None:
    """SIGKILL for the one who holds the workspace: the one who waits goes on from there at once."""
    first = start(copy_of)
    until(lambda: holds(copy_of, first))
    second = start(copy_of)
    assert second.stdout is not None
    line = second.stdout.readline()
    assert line.startswith(f"Waiting: another run (pid {first.pid}, since "), line
    os.kill(first.pid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: holds(copy_of, second))
    assert time.monotonic() - killed < 10
    said, _ = second.communicate(timeout=600)
    assert 0 == second.returncode, said
    first.communicate()
    check_one_more_version(copy_of)
