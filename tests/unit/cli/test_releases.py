"""``models`` and ``history``: for people, and as JSON for programs."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pipeline.cli import main  # noqa: F401 - adds the commands to the app
from pipeline.cli.app import app
from pipeline.release import steps
from pipeline.release.history import History


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "params.yaml").write_text("model: shop\n")
    return tmp_path


def said(*arguments: object) -> list[str]:
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert 0 == ended.exit_code, ended.output
    return ended.output.splitlines()


def test_history_as_json_is_the_entries(workspace):
    """One per line, oldest first; nothing at all where nothing was decided."""
    assert ["No champion yet: graftline run makes the first one."] == said("history", "-C", workspace)
    assert [] == said("history", "--json", "-C", workspace)
    for version, action in ((1, "promoted"), (2, "held")):
        History(workspace).append(
            model="shop", action=action, version=version, previous=1, reason="größer", model_sha256="1" * 64
        )
    entries = [json.loads(line) for line in said("history", "--json", "-C", workspace)]
    assert [("promoted", 1), ("held", 2)] == [(entry["action"], entry["version"]) for entry in entries]
    assert "größer" in said("history", "--json", "-C", workspace)[0], "readable without a parser, too"


@pytest.mark.parametrize("verdict", [None, "{}", '{"passed": tr'], ids=["no model", "not one", "cut off"])
def test_a_page_that_cannot_be_written_is_no_failed_rollback(workspace, monkeypatch, verdict):
    """A script around `rollback` goes by its exit code, and the champion has been moved."""
    (workspace / "report").mkdir()
    (workspace / "report/index.html").write_text("the last run's")
    (workspace / "reports").mkdir()
    (workspace / "reports/verdict.json").write_text(verdict or '{"passed": true, "findings": []}')
    if verdict is not None:
        (workspace / "models").mkdir()
        (workspace / "models/model.onnx").write_bytes(b"onnx")
    monkeypatch.setattr(steps, "rollback", lambda *_, reason: "champion shop v1 (rolled back from v2)")
    assert "champion shop v1 (rolled back from v2)" == said("rollback", "-C", workspace)[0]


def test_models_as_json(workspace, monkeypatch):
    """One per line."""
    monkeypatch.setattr(steps, "version_records", lambda workspace, settings: [{"version": 1}, {"version": 2}])
    assert ['{"version": 1}', '{"version": 2}'] == said("models", "--json", "-C", workspace)
