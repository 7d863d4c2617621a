"""Following a training while it trains."""

from __future__ import annotations

import os

import pytest

from flows import live


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Runs ``training(folder)`` under a follower and returns the names of the trainings that were followed."""
    followed = []

    class Curves:
        def __init__(self, workspace, settings, run_id, path):
            self.path = path
            followed.append(path.parent.name)

        def update(self):
            """Nobody listens here."""

    monkeypatch.setattr(live.steps, "live_curves", Curves)
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.005)

    def run(training, until):
        with live.curves(tmp_path, None, "run-1"):
            training(tmp_path / ".graftline/scratch")
            for _ in range(1000):
                if until <= len(followed):
                    break
                live.threading.Event().wait(0.005)
        return followed

    return run


def write(scratch, name, changed_ns=None):
    path = scratch / name / "live.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")
    if changed_ns:
        os.utime(path, ns=(changed_ns, changed_ns))


def test_another_training_that_was_killed_is_not_followed(follow, tmp_path):
    """Its file is there, and newer by a clock that was set back; only what is written now is followed."""
    write(tmp_path / ".graftline/scratch", "train-killed", changed_ns=4 * 10**18)
    assert ["train-now"] == follow(lambda scratch: write(scratch, "train-now"), until=1)


def test_a_resumed_training_is_followed(follow, tmp_path):
    """The same file as before the kill, written again."""
    write(tmp_path / ".graftline/scratch", "train-now", changed_ns=10**18)
    assert ["train-now"] == follow(lambda scratch: write(scratch, "train-now"), until=1)


def test_the_newest_is_followed(follow):
    """A file that appears later takes over."""

    def training(scratch):
        write(scratch, "train-1", changed_ns=10**18)
        live.threading.Event().wait(0.1)
        write(scratch, "train-2")

    assert ["train-1", "train-2"] == follow(training, until=2)
