"""One run at a time in a workspace."""

import json
import os
import re
import subprocess
import sys
import textwrap
import threading

import pytest
from filelock import FileLock

from pipeline.core import lock as locking
from pipeline.core.errors import BusyError
from pipeline.core.lock import HOLDER, LOCK, workspace_lock


def test_second_run_says_who_holds_the_workspace(tmp_path):
    """The one that has to wait names the pid, and gives up with the same sentence."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
            import pathlib, sys, time
            from pipeline.core.lock import workspace_lock
            with workspace_lock(pathlib.Path(sys.argv[1])):
                print("held", flush=True)
                time.sleep(60)
            """),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    said = []
    with pytest.raises(BusyError, match=f"pid {holder.pid}"), workspace_lock(tmp_path, wait_s=0.2, emit=said.append):
        pass
    assert f"pid {holder.pid}" in said[0]
    holder.kill()
    holder.wait()
    with workspace_lock(tmp_path, wait_s=5):  # a dead holder's lock is free at once
        assert f'"pid": {os.getpid()}' in (tmp_path / ".graftline/run.holder.json").read_text()


def test_who_is_done_leaves_no_name(tmp_path):
    """Or the next one who waits would be told of a run that ended long ago."""
    with workspace_lock(tmp_path):
        told = json.loads((tmp_path / HOLDER).read_text())
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told["since"])
    assert not (tmp_path / HOLDER).exists()
    with workspace_lock(tmp_path):
        (tmp_path / HOLDER).unlink()  # somebody has tidied up


def test_a_holder_who_has_not_said_its_name_yet_is_waited_for(tmp_path):
    """Two runs that start in the same moment: the name is there a moment after the lock."""
    (tmp_path / ".graftline").mkdir()
    said = []
    with FileLock(tmp_path / LOCK):
        late = threading.Timer(0.2, (tmp_path / HOLDER).write_text, ['{"pid": 7, "since": "today"}'])
        late.start()
        with pytest.raises(BusyError), workspace_lock(tmp_path, wait_s=0.1, emit=said.append):
            pass
        late.join()
    assert said == [f"Waiting: another run (pid 7, since today) holds {tmp_path}."]


class Clock:
    """Stands for ``time``: sleeping moves it, and nothing waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return 100.0 + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize(
    ("name", "told", "waited_s"),
    [
        ('{"pid": 7, "since": "today"}', "another run (pid 7, since today) holds {}", 0),
        ("half of a na", "another run holds {}", 0),
        (None, "another run holds {}", 1),
    ],
    ids=["named", "damaged", "nameless"],
)
def test_who_holds_it(tmp_path, monkeypatch, name, told, waited_s):
    """A name that is there is told at once; for one that is not there it looks again, often, for a second."""
    (tmp_path / ".graftline").mkdir()
    if name:
        (tmp_path / HOLDER).write_text(name)
    clock = Clock()
    monkeypatch.setattr(locking, "time", clock)
    said = []
    with (
        FileLock(tmp_path / LOCK),
        pytest.raises(BusyError) as caught,
        workspace_lock(tmp_path, wait_s=0, emit=said.append),
    ):
        pass
    assert said == [f"Waiting: {told.format(tmp_path)}."]
    assert str(caught.value) == f"{told.format(tmp_path)}; gave up after 0 s."
    assert sum(clock.slept) == pytest.approx(2 * waited_s, abs=0.1)
    assert max(clock.slept, default=0) < 0.1
