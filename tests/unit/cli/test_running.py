"""``graftline run``: what its exit code says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from pipeline.cli import main, running  # noqa: F401 - main adds the commands to the app
from pipeline.cli.app import app
from pipeline.release.history import History


@pytest.mark.parametrize(
    ("failed", "history", "code"),
    [
        ((), [("promoted", 2)], 0),
        (("accuracy_floor",), [("promoted", 1), ("held", 2)], 3),
        (("accuracy_floor",), [("held", 2), ("promoted", 2)], 0),
        (("accuracy_floor",), [("promoted", 2), ("held", 2)], 3),
        (("accuracy_floor",), [("held", 2), ("promoted", 2), ("rolled_back", 1)], 0),
    ],
    ids=["passed", "held", "overruled by hand", "a champion under stricter gates", "overruled, and rolled back"],
)
def test_strict_ends_with_three_until_somebody_overrules(monkeypatch, tmp_path, failed, history, code):
    """However often the run is repeated: a retry must not turn red into green, nor a decision back into red."""
    for action, version in history:
        History(tmp_path).append(
            model="shop", action=action, version=version, previous=None, reason="", model_sha256="0" * 64
        )
    outcome = SimpleNamespace(failed=failed, model="shop", version=2)
    monkeypatch.setattr(running, "_runner", lambda inline: lambda workspace, **_: outcome)
    monkeypatch.setattr(running, "_where", lambda workspace, outcome: [])

    assert code == CliRunner().invoke(app, ["run", "--strict", "-C", str(tmp_path)]).exit_code
    assert 0 == CliRunner().invoke(app, ["run", "-C", str(tmp_path)]).exit_code


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interruption_is_told(monkeypatch, tmp_path: Path, sent, code):
    """With the exit code that shells give it, and after whatever is to be put in order; then signals are as before."""
    order, before = [], signal.getsignal(signal.SIGTERM)

    def interrupted(workspace: Path, **_: object) -> None:
        try:
            os.kill(os.getpid(), sent)
            time.sleep(10)
        finally:
            order.append("put in order")

    monkeypatch.setattr(running, "_runner", lambda inline: interrupted)
    ended = CliRunner().invoke(app, ["run", "-C", str(tmp_path)])
    assert (code, True) == (ended.exit_code, "the next run goes on from there" in ended.output)
    assert ["put in order"] == order
    assert before == signal.getsignal(signal.SIGTERM)
