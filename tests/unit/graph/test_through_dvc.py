"""Asking DVC whether a stage is stale: what it throws reaches people in our form."""

import sqlite3

import pytest
from dvc.lock import LockError
from dvc.repo import Repo
from pictures import scene

from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.errors import BusyError, DataError, ServiceError, WorkspaceError
from pipeline.graph import executor, through_dvc
from pipeline.graph.dvc_process import DvcProcess
from pipeline.graph.table import BY_NAME
from pipeline.workspace import create


@pytest.fixture
def workspace(tmp_path):
    for _ in create(tmp_path / "w", target=None, source=None, preset="digits", version_data=False):
        pass
    return tmp_path / "w"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(through_dvc, "BUSY_TRIES", 3)
    monkeypatch.setattr(through_dvc, "BUSY_DELAY_S", 0)


def test_a_fresh_workspace_is_stale_from_end_to_end(workspace):
    """Every stage is named, with what is missing."""
    stale = through_dvc.stale(workspace)
    assert list(BY_NAME) == list(stale)
    assert any("data/labels.json" in reason for reason in stale["validate"])


def test_reasons_say_what_kind_of_thing_changed():
    """The parameters of train and its code have one name in DVC's answer."""
    changed = {"params.yaml": {"train": "modified"}, "state/code.json": {"train": "modified"}, "data/x": "deleted"}
    assert ["params train modified", "code of train modified", "data/x deleted", "command changed"] == (
        through_dvc._reasons([{"changed deps": changed}, "changed command"])
    )


def test_one_stage_may_be_asked_for(workspace):
    """Then the others are not told of."""
    assert list(through_dvc.stale(workspace, "train")) == ["train"]


def test_dvc_is_asked_once_until_something_moves(workspace, monkeypatch):
    """All stages together while nothing has moved, then each by itself, for what moved may have made it stale."""
    asked = []
    monkeypatch.setattr(through_dvc, "stale", lambda workspace, name=None: asked.append(name) or {"train": ["new"]})
    dvc = through_dvc.Dvc(workspace)
    assert [dvc.is_stale(name) for name in ("ingest", "train", "gate")] == [False, True, False]
    assert asked == [None]
    dvc.moved()
    assert dvc.is_stale("gate")
    assert asked == [None, "gate"]


def test_a_broken_dvc_yaml_is_a_message(workspace):
    """The file is named, and how it is written anew."""
    (workspace / "dvc.yaml").write_text("stages: [\n")
    with pytest.raises(WorkspaceError, match="graftline render"):
        through_dvc.stale(workspace)


def test_no_dvc_is_a_message(tmp_path):
    """A folder without a DVC repository is told how to get one."""
    with pytest.raises(WorkspaceError, match="dvc init"):
        through_dvc.stale(tmp_path)


@pytest.mark.usefixtures("impatient")
def test_another_dvc_command_is_waited_for(workspace, monkeypatch):
    """A lock that is free at the second try is no error; one that never is names the workspace."""
    status, asked = Repo.status, []

    def busy_once(repo, *args, **kwargs):
        asked.append(1)
        if len(asked) == 1:
            raise LockError("held")
        return status(repo, *args, **kwargs)

    monkeypatch.setattr(Repo, "status", busy_once)
    assert "ingest" in through_dvc.stale(workspace)
    assert len(asked) == 2

    def always_busy(repo, *args, **kwargs):
        raise LockError("held")

    monkeypatch.setattr(Repo, "status", always_busy)
    with pytest.raises(BusyError, match="Another DVC command holds"):
        through_dvc.stale(workspace)


def test_who_only_looks_does_not_wait(workspace, monkeypatch):
    """A held lock is told at the first try."""
    asked = []

    def busy(repo, *args, **kwargs):
        asked.append(1)
        raise LockError("held")

    monkeypatch.setattr(Repo, "status", busy)
    with pytest.raises(BusyError):
        through_dvc.stale(workspace, wait=False)
    assert 1 == len(asked)


def stop(error):
    raise error


def test_what_cannot_be_brought_back_hides_no_error(tmp_path, monkeypatch):
    """Whatever DVC's cache and its database may say: the stage's own error comes out."""
    error = DataError(expected="a", found="b", where="c", remedy="d")
    monkeypatch.setattr(through_dvc.outside, "check", lambda *_: None)
    monkeypatch.setattr(through_dvc.params, "load", lambda _: None)
    monkeypatch.setattr(through_dvc, "stale", lambda *_: {"ingest": ["x"]})
    monkeypatch.setattr(through_dvc, "Repo", lambda _: stop(sqlite3.OperationalError("disk I/O error")))
    dvc = through_dvc.Dvc(tmp_path)
    monkeypatch.setattr(dvc, "_repro", lambda *_: stop(error))
    with pytest.raises(DataError):
        dvc.reproduce("ingest")


@pytest.mark.parametrize("ends", [None, KeyboardInterrupt], ids=["refused", "interrupted"])
def test_a_stage_that_does_not_end_loses_nothing_of_the_last_run(tmp_path, monkeypatch, ends):
    """DVC removes outputs before it runs a stage. Once the images are as they were, nothing is stale."""
    images, put_away, workspace = tmp_path / "images", tmp_path / "put away", tmp_path / "w"
    for number in range(12):
        file = put_away / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        scene(40, 40, seed=number).save(file)
    images.mkdir()
    for _ in create(workspace, target=str(images), source=None, preset=None, version_data=False):
        pass

    def outputs():
        places = [workspace / CATALOG[output].path for output in BY_NAME["ingest"].outputs]
        return [digests.of_path(place) for place in places if place.exists()]

    with through_dvc.Dvc(workspace) as dvc:
        with pytest.raises(DataError):
            dvc.reproduce("ingest")
        assert [] == outputs(), "there is no run before the first"
        assert not (workspace / "data").exists()
        images.rmdir()
        put_away.rename(images)
        dvc.reproduce("ingest")
        made = outputs()
        assert len(BY_NAME["ingest"].outputs) == len(made)

        images.rename(put_away)
        images.mkdir()
        if ends is not None:
            repro = dvc._process.repro
            monkeypatch.setattr(dvc._process, "repro", lambda *arguments: [repro(*arguments), stop(ends)])
        with pytest.raises(ends or DataError):
            dvc.reproduce("ingest")
    assert made == outputs()
    images.rmdir()
    put_away.rename(images)
    assert "ingest" not in through_dvc.stale(workspace)


def test_of_restored_outputs_nothing_of_another_execution_is_told(tmp_path):
    """Images that are as they were need no second look; "1 unreadable" was said of others in between."""
    images, workspace = tmp_path / "images", tmp_path / "w"
    for number in range(12):
        file = images / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        scene(40, 40, seed=number).save(file)
    for _ in create(workspace, target=str(images), source=None, preset=None, version_data=False):
        pass
    broken = images / "class0" / "broken.png"
    with through_dvc.Dvc(workspace) as dvc:
        assert "12 images" in dvc.reproduce("ingest").line
        broken.write_bytes(b"no image")
        assert "1 unreadable" in dvc.reproduce("ingest").line
        broken.unlink()
        assert through_dvc.RESTORED == dvc.reproduce("ingest").line
        assert "" == dvc.reproduce("ingest").line
        assert executor.load_cost(workspace, "ingest") is None


def test_a_stages_own_word_on_a_full_disk_is_passed_on(tmp_path, monkeypatch):
    """What the stage kept is not told around a second time; where it kept nothing, the end of its output tells."""
    tail = "ERROR: failed to run\nOSError: [Errno 28] No space left on device: 'x'\nERROR: see above"
    dvc = through_dvc.Dvc(tmp_path)
    monkeypatch.setattr(DvcProcess, "repro", lambda *_: (1, tail))
    own = ServiceError("There is no room left on the disk for stage 'train'. (No space left on device)\n  Make room.")
    for kept, said in ((own, str(own)), (None, "(OSError: [Errno 28] No space left on device: 'x').")):
        monkeypatch.setattr(executor, "kept_error", lambda *_, kept=kept: kept)
        with pytest.raises(ServiceError) as raised:
            dvc._repro("train", print)
        assert said in str(raised.value)
        assert str(raised.value).count("no room left") == 1
