"""``graftline init``: what a new workspace holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pipeline import params, workspace
from pipeline.core.errors import DataError, ParamsError, WorkspaceError
from pipeline.graph import dvcfile


def create(folder: Path, **options: object) -> list[str]:
    """The lines that ``create`` says."""
    defaults = {"target": None, "source": None, "preset": None, "version_data": False}
    return list(workspace.create(folder, **(defaults | options)))


@pytest.fixture
def without_tools(monkeypatch):
    """git and DVC answer at once and do nothing: most of these tests are about our own files."""
    monkeypatch.setattr(workspace, "_call", lambda command, folder: None)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "my phötos"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat/1.png").write_bytes(b"not looked at here")
    return folder


def test_what_a_workspace_is_made_of(tmp_path):
    """git and DVC are initialised; params.yaml with its schema, dvc.yaml in step, prefect.yaml and the ignore files."""
    folder = tmp_path / "a space"
    said = create(folder)

    made = {path.name for path in folder.iterdir()}
    assert {"params.yaml", params.SCHEMA_FILE, "dvc.yaml", "prefect.yaml", ".gitignore", ".dvcignore"} <= made
    assert (folder / ".git").is_dir()
    assert (folder / ".dvc").is_dir()
    assert dvcfile.in_step(folder, params.load(folder))
    assert params.json_schema() == json.loads((folder / params.SCHEMA_FILE).read_text())
    assert {"git initialised", "DVC initialised"} <= set(said)
    assert f"graftline run -C '{folder}'" in said[-1]


def test_inside_a_git_repository_no_other_is_made(tmp_path):
    """The workspace becomes a folder of the repository there is, for DVC too."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    said = create(tmp_path / "below")

    assert "git initialised" not in said
    assert not (tmp_path / "below/.git").exists()
    assert (tmp_path / "below/.dvc").is_dir()


@pytest.mark.parametrize("preset", workspace.PRESETS)
def test_a_preset_is_taken_as_it_is(tmp_path, without_tools, preset):
    """Comments included."""
    create(tmp_path / "new", preset=preset)

    assert (workspace.TEMPLATES / f"{preset}.yaml").read_text().splitlines()[1] in (
        tmp_path / "new/params.yaml"
    ).read_text()
    assert preset == params.load(tmp_path / "new").model


def test_images_outside_the_workspace(tmp_path, without_tools, photos):
    """The photos preset, their absolute path, no source, and a model named as the folder."""
    create(tmp_path / "birds of 2024", target=str(photos))
    settings = params.load(tmp_path / "birds of 2024")

    assert ("image_folder", str(photos)) == (settings.ingest.target.name, settings.ingest.target.path)
    assert settings.ingest.source is None
    assert "birds-of-2024" == settings.model
    assert 'name: "birds-of-2024"' in (tmp_path / "birds of 2024/prefect.yaml").read_text()


def test_images_inside_the_workspace(tmp_path, without_tools, photos, monkeypatch):
    """A relative path, so that the workspace can be moved; paths may be given relative to the current folder."""
    monkeypatch.chdir(tmp_path)
    create(tmp_path, target="my phötos")

    assert "my phötos" == params.load(tmp_path).ingest.target.path


@pytest.mark.parametrize("name", ["list.csv", "LIST.CSV", "list.parquet"])
def test_a_table(tmp_path, without_tools, photos, name):
    """A CSV or Parquet file is a table, whatever its case."""
    (photos / name).write_bytes(b"not looked at here")
    create(tmp_path / "new", target=str(photos / name))
    target = params.load(tmp_path / "new").ingest.target

    assert ("table", str(photos / name)) == (target.name, target.path)


def test_a_source(tmp_path, without_tools, photos):
    """A labelled source domain takes the same forms."""
    said = create(tmp_path / "new", target=str(photos), source=str(photos))
    settings = params.load(tmp_path / "new")

    assert ("probe", str(photos)) == (settings.train.strategy.name, settings.ingest.source.path)
    assert "train.strategy.name is probe, which learns from the target's labels where there are any" in said[-2]
    assert not any("probe" in line for line in create(tmp_path / "other", preset="digits", source=str(photos)))


def test_images_around_the_workspace(tmp_path, without_tools, photos):
    """DVC would be asked to depend on its own files; inside the workspace a folder of images is welcome."""
    with pytest.raises(DataError, match=r"inside .*\n.*--target\n.*somewhere else"):
        create(photos / "workspace", target=str(photos))
    (photos / "list.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"found the workspace .* inside "):
        create(photos / "workspace", target=str(photos / "list.csv"))
    assert not (photos / "workspace").exists()


def test_images_under_dvc_of_a_relative_workspace(tmp_path, photos, monkeypatch):
    """As people type it: where init is called is not where it calls DVC."""
    monkeypatch.chdir(tmp_path)
    create(Path("new"), target=photos.name, version_data=True)

    assert (tmp_path / "new/data/target/cat/1.png").is_file()
    assert (tmp_path / "new/data/target.dvc").is_file()


def test_a_tool_that_fails_without_a_word(tmp_path, monkeypatch):
    """The message has a reason all the same."""
    monkeypatch.setattr(workspace.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 7, "", ""))
    with pytest.raises(WorkspaceError, match="found exit code 7, and no word"):
        create(tmp_path / "new")


def test_images_under_dvc(tmp_path, photos):
    """Where asked, images from outside are imported into the workspace, and those inside are added in place."""
    create(tmp_path / "new", target=str(photos), version_data=True)
    settings = params.load(tmp_path / "new")

    assert "data/target" == settings.ingest.target.path
    assert (tmp_path / "new/data/target/cat/1.png").is_file()
    assert (tmp_path / "new/data/target.dvc").is_file()

    (tmp_path / "other/photos/cat").mkdir(parents=True)
    (tmp_path / "other/photos/cat/1.png").write_bytes(b"another")
    create(tmp_path / "other", target=str(tmp_path / "other/photos"), version_data=True)
    assert "photos" == params.load(tmp_path / "other").ingest.target.path
    assert (tmp_path / "other/photos.dvc").is_file()


def test_a_workspace_is_never_overwritten(tmp_path, without_tools):
    """The second init refuses, and what was there stays."""
    create(tmp_path / "new")
    (tmp_path / "new/params.yaml").write_text("model: mine\n")

    with pytest.raises(WorkspaceError, match=r"graftline run -C"):
        create(tmp_path / "new", preset="photos")
    assert "model: mine\n" == (tmp_path / "new/params.yaml").read_text()


def test_lines_in_ignore_files_stay(tmp_path, without_tools):
    """Ours are added to those that the user has, each once."""
    (tmp_path / ".gitignore").write_text("/mine\n/report\n")
    create(tmp_path)
    lines = (tmp_path / ".gitignore").read_text().splitlines()

    assert ["/mine", "/report"] == lines[:2]
    assert set((workspace.TEMPLATES / "gitignore").read_text().splitlines()) <= set(lines)
    assert 1 == lines.count("/report")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target": "nope"}, DataError),
        ({"target": ""}, DataError),
        ({"target": __file__}, DataError),
        ({"preset": "nope"}, ParamsError),
    ],
    ids=["missing", "empty", "no table", "preset"],
)
def test_nothing_is_made_of_a_mistake(tmp_path, options, error):
    """Everything is looked at before the folder is made."""
    with pytest.raises(error):
        create(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_tool_that_fails_is_quoted(tmp_path, monkeypatch):
    """Without git there is no workspace, and the message says which command it was."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(WorkspaceError) as caught:
        create(tmp_path / "new")
    assert "git" in caught.value.expected + caught.value.found
    assert not (tmp_path / "new/params.yaml").exists()
