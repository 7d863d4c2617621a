"""Tables with odd rows: each is used, reported by name, or refused with the remedy; none is a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from refusals import Answer, assert_refused, in_this_process

from pipeline.catalog import CATALOG
from pipeline.release.pin import ensure_pins

PARAMS = """\
model: toys
ingest:
  target: {name: table, path: data/list.csv}
  source: null
backbone: {name: small_cnn, weights: none}
"""

ROWS = [(f"{label}{number}.png", label) for label in "ab" for number in range(12)]

Call = Callable[..., Answer]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two classes of twelve images, and no table yet."""
    (tmp_path / "data").mkdir()
    for number, (name, _) in enumerate(ROWS):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / name)
    (tmp_path / "params.yaml").write_text(PARAMS)
    ensure_pins(tmp_path)
    return tmp_path


@pytest.fixture
def stage(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``stage("ingest")`` in this process."""
    call = in_this_process(monkeypatch, capsys)
    return lambda name: call("stage", name, "-C", workspace)


def write(workspace: Path, *more: str, header: str = "path,label") -> None:
    lines = [header, *(f"{name},{label}" for name, label in ROWS), *more]
    (workspace / "data/list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(workspace: Path, **columns: object) -> None:
    frame = pd.DataFrame({"path": [name for name, _ in ROWS], **columns})
    frame.to_parquet(workspace / "data/list.parquet")
    (workspace / "params.yaml").write_text(PARAMS.replace("list.csv", "list.parquet"))


def labels(workspace: Path) -> set[str]:
    return set(CATALOG["target_inventory"].load(workspace).frame["label"].dropna())


OUTSIDE = {
    "above": "../list.csv,a",
    "absolute": "/etc/hostname,a",
    "in and out again": "x/../../list.csv,a",
    "the folder itself, from above": "../data2/a0.png,a",
}


@pytest.mark.parametrize("row", OUTSIDE.values(), ids=OUTSIDE)
def test_paths_stay_below_the_root(workspace: Path, stage: Call, row: str) -> None:
    """Whatever their spelling; nothing outside is opened."""
    write(workspace, row)
    assert_refused(stage("ingest"), "paths below", row.partition(",")[0], "take the row out")


UNREADABLE = {
    "a folder": (".,a", "cannot be read: "),
    "a name that is too long": ("x" * 5000 + ".png,a", "cannot be read: File name too long"),
    "a line break in a name": ('"a0\n.png",a', "cannot be read: No such file"),
    "no image": ("list.csv,a", "is text that begins"),
}


@pytest.mark.parametrize(("row", "found"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_row_that_leads_to_no_image(workspace: Path, stage: Call, row: str, found: str) -> None:
    """validate names it, and goes on without it where it is told to."""
    write(workspace, row)
    assert stage("ingest").code == 0
    assert_refused(stage("validate"), found, "validate.unreadable")

    (workspace / "params.yaml").write_text(PARAMS + "validate: {unreadable: quarantine}\n")
    done = stage("validate")
    assert done.code == 0, done.said
    assert "1 quarantined" in done.said


def test_a_zero_byte_in_a_name(workspace: Path, stage: Call) -> None:
    """No file can be called so: told, no traceback."""
    write_parquet(workspace, label=[label for _, label in ROWS])
    frame = pd.read_parquet(workspace / "data/list.parquet")
    frame.loc[0, "path"] = "a0\0.png"
    frame.to_parquet(workspace / "data/list.parquet")
    assert_refused(stage("ingest"), "paths without a zero byte", "'a0\\x00.png'", "take the row out")


def test_duplicate_rows(workspace: Path, stage: Call) -> None:
    """Both rows count, land in one split, and are reported as copies of each other."""
    write(workspace, "a0.png,a", "b0.png,b")
    assert stage("ingest").code == 0
    frame = CATALOG["target_inventory"].load(workspace).frame
    assert len(ROWS) + 2 == len(frame)
    assert (frame.groupby("id")["split"].nunique() == 1).all()
    done = stage("validate")
    assert done.code == 0, done.said
    (check,) = [check for check in CATALOG["validation"].load(workspace).checks if check.name == "copies"]
    assert 2 == check.unexpected_count


def test_equal_bytes_with_two_labels(workspace: Path, stage: Call) -> None:
    """A warning that names both rows and both labels."""
    write(workspace, "a0.png,b")
    assert stage("ingest").code == 0
    assert stage("validate").code == 0
    (check,) = [check for check in CATALOG["validation"].load(workspace).checks if check.name == "label_conflict"]
    assert (False, "warning", 2) == (check.passed, check.severity, check.unexpected_count)
    assert any("a0.png: labelled" in text for text in check.named)


def test_a_label_that_is_no_class(workspace: Path, stage: Call) -> None:
    """Where the classes are settled, another label is a typo."""
    (workspace / "params.yaml").write_text(PARAMS.replace("source: null", "source: null\n  classes: [a, b]"))
    write(workspace, "a0.png,c")
    assert_refused(stage("ingest"), "target images of 'c'", "ingest.classes")


def test_labels_that_look_like_numbers_stay_as_they_are_written(workspace: Path, stage: Call) -> None:
    """Huge ones, ones with leading zeros, NaN, inf, true: text, and equal only where the text is."""
    odd = ["NaN", "nan", "inf", "true", "001", "1", "1e999", str(10**40), "-0", "NULL"]
    write(workspace, *(f"{name},{label}" for (name, _), label in zip(ROWS, odd, strict=False)))
    assert stage("ingest").code == 0
    assert {"a", "b", *odd} == labels(workspace)


def test_numbers_in_a_parquet_table(workspace: Path, stage: Call) -> None:
    """Whole numbers keep every digit; a missing one is no label."""
    huge = 2**63 - 1
    numbers = pd.array([huge, huge - 1] * 11 + [None, None], dtype="Int64")
    write_parquet(workspace, label=numbers)
    assert stage("ingest").code == 0
    assert {str(huge), str(huge - 1)} == labels(workspace)


@pytest.mark.parametrize(
    "values",
    [[["a", "b"]] * 24, [{"a": 1}] * 24, [b"\xff\xfe"] * 24],
    ids=["lists", "mappings", "bytes that are no text"],
)
def test_labels_that_are_no_labels(workspace: Path, stage: Call, values: list) -> None:
    """A parquet table can hold anything; a label is a text or a number."""
    write_parquet(workspace, label=values)
    assert_refused(stage("ingest"), "texts or numbers in column 'label'", "ingest.target.label_column")


def test_a_cut_off_parquet_table(workspace: Path, stage: Call) -> None:
    """The reader's words, and what to do."""
    write_parquet(workspace, label=[label for _, label in ROWS])
    file = workspace / "data/list.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    assert_refused(stage("ingest"), "an unreadable one", "Save it as UTF-8 CSV")


def test_a_table_that_is_a_pipe(workspace: Path, stage: Call) -> None:
    """It is not waited for."""
    os.mkfifo(workspace / "data/list.csv")
    assert_refused(stage("ingest"), "a table at", "no such file", "Correct the path")


def test_one_column_twice(workspace: Path, stage: Call) -> None:
    """The first is used, as pandas renames the second; a path column must be there."""
    write(workspace, header="path,label,label")
    assert stage("ingest").code == 0
    assert {"a", "b"} == labels(workspace)


def test_a_folder_that_holds_itself(workspace: Path, stage: Call) -> None:
    """A link that leads in a circle adds no image and does not go round."""
    (workspace / "data/again").symlink_to(".")
    write(workspace, "again/again/a0.png,a")
    assert stage("ingest").code == 0
    assert len(ROWS) + 1 == len(CATALOG["target_inventory"].load(workspace))
