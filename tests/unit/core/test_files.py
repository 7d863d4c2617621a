"""Whole-or-nothing writing."""

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
