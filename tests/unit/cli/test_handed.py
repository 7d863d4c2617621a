"""Where the models lie that a command may be given by an alias."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import params
from pipeline.cli import handed, main  # noqa: F401 - main adds the commands to the app
from pipeline.cli.app import app
from pipeline.core.errors import BundleError
from pipeline.release.history import History


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three versions were champion, the third was rolled back."""
    monkeypatch.setattr(History, "champions", lambda self, model: {"shop": [1, 2]}.get(model, []))
    (tmp_path / "params.yaml").write_text("model: shop\npublish: {handoff: out}\n")
    for name in ("out/v1", "out/v2", "out/v3", "out/current", "bundle"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("champion", "out/current"),
        ("previous", "out/v1"),
        ("challenger", "bundle"),
        ("v3", "out/v3"),
        ("shop@champion", "out/current"),
    ],
)
def test_an_alias_leads_to_its_folder(workspace: Path, model: str, place: str) -> None:
    """The champion before this one, as a rollback would bring it back."""
    assert workspace / place == handed.find(model, workspace, "predict")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("v9", r"found no .*out/v9\.\n[\s\S]*graftline promote v9 hands one of these off"),
        ("nothing.onnx", "found 'nothing.onnx', which does not exist"),
    ],
)
def test_what_is_not_there_is_named(workspace: Path, model: str, said: str) -> None:
    """With what would bring it there."""
    with pytest.raises(BundleError, match=said):
        handed.find(model, workspace, "predict")


def test_a_first_champion_has_none_before_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "champions", lambda self, model: [1])
    with pytest.raises(BundleError, match="found no champion before the present one"):
        handed.find("previous", workspace, "verify")


def test_an_alias_outside_a_workspace(tmp_path: Path) -> None:
    """That is what people have forgotten, not the version."""
    with pytest.raises(BundleError, match=r"and no workspace in .*\n(.*\n)?.*name the workspace with -C"):
        handed.find("champion", tmp_path, "predict")


def test_a_champion_whose_folder_has_gone(workspace: Path) -> None:
    """It is in the registry: the next run hands it off again."""
    (workspace / "out/current").rmdir()
    with pytest.raises(BundleError, match="graftline run hands its champion off again where that has"):
        handed.find("champion", workspace, "predict")


def test_a_graph_out_of_step_is_told_and_mended(tmp_path: Path) -> None:
    """``render --check`` changes nothing and ends with 2; ``render`` mends it, and says whether it had to."""

    def render(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["render", "-C", str(tmp_path), *options])
        return done.exit_code, done.output + str(done.exception or "")

    (tmp_path / "params.yaml").write_text("model: shop\n")
    code, said = render("--check")
    assert code != 0
    assert "found a difference" in said
    assert not (tmp_path / "dvc.yaml").exists()
    assert [(0, "dvc.yaml rendered\n"), (0, "dvc.yaml is in step\n")] == [render(), render()]
    assert (0, "dvc.yaml is in step\n") == render("--check")

    schema = tmp_path / params.SCHEMA_FILE
    assert not schema.exists(), "who wants none is given none"
    schema.write_text("{}")  # of an earlier release
    assert (0, "dvc.yaml is in step\n") == render("--check")
    assert schema.read_text() == "{}"
    said = "dvc.yaml is in step\nparams.schema.json rendered\n"
    assert [(0, said), (0, "dvc.yaml is in step\n")] == [render(), render()]
    assert params.json_schema() == json.loads(schema.read_text())
