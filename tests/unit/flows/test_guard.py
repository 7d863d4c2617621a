"""A command that must not outlive who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flows import guard


@pytest.fixture
def handler():
    """The guard takes over SIGTERM, which is the whole process's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handler")
def test_a_command_that_ends_by_itself_keeps_its_exit_code():
    assert guard.main([sys.executable, "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.usefixtures("handler")
def test_an_orphan_ends_what_it_guards(monkeypatch):
    """The system has given it another parent."""
    parents = iter([10, 10, 1])
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    assert guard.main([sys.executable, "-c", "import time; time.sleep(60)"]) == -signal.SIGTERM


def test_what_does_not_listen_is_killed(monkeypatch):
    """After it was asked to end and was given some time."""
    monkeypatch.setattr(guard, "PATIENCE_S", 0.1)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"deaf\n"
        assert guard._stop(child) == -signal.SIGKILL
