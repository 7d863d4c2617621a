"""Two workspaces name one hand-off folder: one series of versions may be in it, and no other overwrites it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from integration_tools import migrated_store
from release_toys import Ready, at_once, import_once, in_child, toys, train_in

from pipeline.core import digests
from pipeline.core.errors import WorkspaceError
from pipeline.flow_params import Publish, Tracking
from pipeline.release import ownership, steps


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, made in a child so that no connection of it is shared by a fork."""
    import_once()
    folder = tmp_path_factory.mktemp("store")
    assert in_child(lambda: migrated_store(folder), folder / "log") == 0, (folder / "log").read_text()
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def two(tmp_path: Path, store: Path) -> tuple[Path, Path]:
    """Each with a registry of its own, so that each counts from v1."""
    places = tmp_path / "first", tmp_path / "second"
    for place in places:
        (place / ".graftline").mkdir(parents=True)
        shutil.copyfile(store, place / ".graftline/mlflow.db")
    return places


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    return toys.SETTINGS.model_copy(update={"publish": Publish(handoff=str(tmp_path / "shared"))})


def released(workspace: Path, settings: Any, bias: float, log: Path) -> None:
    """Train and release in a process of its own."""

    def work() -> None:
        train_in(workspace)(bias)
        assert "promoted" == toys.release(workspace, settings).kind

    assert in_child(work, log) == 0, log.read_text()


@pytest.mark.parametrize("change", [{}, {"model": "letters"}], ids=["the same name", "another model"])
def test_another_registrys_model_is_refused_before_it_starts(
    two: tuple[Path, Path], settings: Any, tmp_path: Path, change: dict[str, str]
) -> None:
    """The message names the owner and the way out; the folder is byte for byte what it was, the second has done
    nothing. With a folder of its own it goes on."""
    first, second = two
    released(first, settings, 0.1, tmp_path / "log")
    before = digests.of_path(tmp_path / "shared")

    other = settings.model_copy(update=change)
    train_in(second)(0.2)
    for begin in (lambda: steps.recover(second, other), lambda: steps.publish(second, other, 1)):
        with pytest.raises(WorkspaceError) as caught:
            begin()
        message = str(caught.value)
        assert f"found {tmp_path}/shared, which belongs to model 'digits' of sqlite:///{first}/" in message
        assert f"(workspace {first})" in message
        assert "publish.handoff in params.yaml" in message
        assert "Give each model a folder of its own. If this is that model under another name or address" in message
    assert before == digests.of_path(tmp_path / "shared")
    assert not (second / "state/history.jsonl").exists()
    own = other.model_copy(update={"publish": Publish(handoff=str(tmp_path / "own"))})
    if not change:
        released(second, own, 0.2, tmp_path / "log")
        assert (tmp_path / "own/current/model.onnx").is_file()
    assert before == digests.of_path(tmp_path / "shared")


def test_workspaces_of_one_registry_share_their_series(two: tuple[Path, Path], settings: Any, tmp_path: Path) -> None:
    """One model, one registry: v1 of the first and v2 of the second lie side by side, and ``current`` is the last."""
    first, second = two
    one = settings.model_copy(update={"tracking": Tracking(uri=f"sqlite:///{first / '.graftline/mlflow.db'}")})
    toys_settings = toys.SETTINGS
    try:
        toys.SETTINGS = one  # the toy's training pins the champion of this registry
        released(first, one, 0.1, tmp_path / "log")
        released(second, one, 0.2, tmp_path / "log")
    finally:
        toys.SETTINGS = toys_settings
    assert {"v1", "v2", "current", ownership.FILE} == {path.name for path in (tmp_path / "shared").iterdir()}
    assert "v2" == (tmp_path / "shared/current").readlink().as_posix()


def test_a_folder_inside_the_workspace_needs_no_mark(two: tuple[Path, Path], tmp_path: Path) -> None:
    """A workspace that is moved or copied takes its hand-off along."""
    released(two[0], toys.SETTINGS, 0.1, tmp_path / "log")
    assert not (two[0] / "handoff" / ownership.FILE).exists()
    moved = two[0].rename(tmp_path / "moved")
    assert [] == steps.recover(moved, toys.SETTINGS)


@pytest.mark.parametrize("content", ["", '{"model": "dig', "{}", "[]"])
def test_a_mark_that_cannot_be_read_is_nobodys_to_overwrite(tmp_path: Path, content: str) -> None:
    """It is named, with both ways on."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / ownership.FILE).write_text(content)
    owner = ownership.Owner(model="digits", store="sqlite:///x", workspace=str(tmp_path / "w"))
    with pytest.raises(WorkspaceError, match=r"owner\.json, which does not say"):
        ownership.claim(tmp_path / "shared", tmp_path / "w", owner)
    assert content == (tmp_path / "shared" / ownership.FILE).read_text()


def test_a_folder_inside_one_workspace_is_not_anothers(two: tuple[Path, Path], tmp_path: Path) -> None:
    """The first's versions bear no mark; the second, another model, is refused and marks nothing; the first goes on."""
    first, second = two
    released(first, toys.SETTINGS, 0.1, tmp_path / "log")
    before = digests.of_path(first / "handoff")
    changes = {"model": "letters", "publish": Publish(handoff=str(first / "handoff"))}
    other = toys.SETTINGS.model_copy(update=changes)
    train_in(second)(0.2)
    for begin in (lambda: steps.recover(second, other), lambda: steps.publish(second, other, 1)):
        with pytest.raises(WorkspaceError) as caught:
            begin()
        assert "current, v1 in it, and no owner.json that says whose" in str(caught.value)
        assert "Name another folder; or, if all versions there are this model's" in str(caught.value)
    assert before == digests.of_path(first / "handoff")
    released(first, toys.SETTINGS, 0.3, tmp_path / "log")
    assert "v2" == (first / "handoff/current").readlink().as_posix()


def test_an_unmarked_folder_with_versions_is_taken_as_the_message_says(tmp_path: Path) -> None:
    """What the remedy writes makes it this model's."""
    shared = tmp_path / "elsewhere"
    (shared / "v7").mkdir(parents=True)
    owner = ownership.Owner(model="digits", store="sqlite:///x", workspace=str(tmp_path / "w"))
    with pytest.raises(WorkspaceError, match="v7 in it") as caught:
        ownership.claim(shared, tmp_path / "w", owner)
    assert ["v7"] == [path.name for path in shared.iterdir()]
    (shared / ownership.FILE).write_text("{" + str(caught.value).partition(": {")[2].partition("}")[0] + "}")
    ownership.claim(shared, tmp_path / "w", owner)
    assert owner == ownership.Owner.load(shared / ownership.FILE)


def test_the_mark_of_who_came_first_holds_inside_a_workspace_too(two: tuple[Path, Path], tmp_path: Path) -> None:
    """The second claims a folder in the first's workspace while it is empty: the first publishes nothing there."""
    first, second = two
    owner = ownership.Owner(model="letters", store="sqlite:///second", workspace=str(second))
    ownership.claim(first / "handoff", second, owner)
    with pytest.raises(WorkspaceError, match="belongs to model 'letters'"):
        steps.recover(first, toys.SETTINGS)
    assert [ownership.FILE] == [path.name for path in (first / "handoff").iterdir()]


def test_of_two_who_come_at_once_one_is_first(two: tuple[Path, Path], settings: Any, tmp_path: Path) -> None:
    """Both find an empty folder; one owns it, the other is told so."""

    def claiming(workspace: Path) -> Any:
        def claim(ready: Ready) -> str:
            owner = ownership.Owner(model="digits", store=f"sqlite:///{workspace}", workspace=str(workspace))
            ready()
            try:
                ownership.claim(tmp_path / "shared", workspace, owner)
            except WorkspaceError as error:
                return error.found
            return "mine"

        return claim

    for number in range(20):
        said = at_once([claiming(place) for place in two], tmp_path / "log")
        assert 1 == said.count("mine"), (number, said)
        assert [ownership.FILE] == [path.name for path in (tmp_path / "shared").iterdir()]
        shutil.rmtree(tmp_path / "shared")
