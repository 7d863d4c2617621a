"""Whole-or-nothing writing."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.core import files


def test_failed_write_leaves_the_old_content(tmp_path):
    """An exception while writing leaves the file as it was, and nothing beside it."""
    path = tmp_path / "report.json"
    files.write_text(path, "old")

    def write_half():
        with files.replacing(path) as fresh:
            fresh.write_text("half of the n")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_replaces_a_folder_that_holds_files(tmp_path):
    """A folder takes the place of a fuller one: nothing of the old is left."""
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with files.replacing(target) as fresh:
        fresh.mkdir()
        (fresh / "new.txt").write_text("new")
    assert [entry.name for entry in target.iterdir()] == ["new.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_document_round_trip(tmp_path):
    """A document is equal to itself after saving and loading, infinities included."""

    class Report(files.Document):
        score: float
        classes: list[str]

    report = Report(score=float("inf"), classes=["ä", "b"])
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from pipeline.core import files
with files.replacing(Path(sys.argv[1])) as fresh:
    fresh.mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_leaves_is_swept(tmp_path):
    """Its temporary goes, by its name; a living writer's and anything that is not ours stay."""
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path / "bundle")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / ".mine.partial").mkdir()
    with files.replacing(tmp_path / "report") as fresh:
        fresh.write_text("at work")
        assert files.sweep(tmp_path) == [left]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".mine.partial", "report"]
    assert files.sweep(tmp_path / "nowhere") == []


def test_folder_is_exchanged_in_one_step(tmp_path):
    """Both folders are whole at any time: none is absent in between."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not files.exchange(tmp_path / "new", tmp_path / "old"):
        pytest.skip("this system cannot exchange two folders")
    assert [entry.name for entry in (tmp_path / "old").iterdir()] == ["new"]
    with pytest.raises(FileNotFoundError):
        files.exchange(tmp_path / "old", tmp_path / "nowhere")


def test_folder_is_replaced_where_the_system_cannot_exchange(tmp_path, monkeypatch):
    """By two renames."""
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    test_replaces_a_folder_that_holds_files(tmp_path)


def test_link_is_replaced(tmp_path):
    """A symlink takes another's place, also one that leads nowhere."""
    for target in ("v1", "v2"):
        with files.replacing(tmp_path / "current") as fresh:
            os.symlink(target, fresh)
    assert os.readlink(tmp_path / "current") == "v2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]
