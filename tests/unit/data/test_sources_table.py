"""Images listed in a table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from pipeline.core.context import Context
from pipeline.core.errors import DataError
from pipeline.data.sources import table
from pipeline.data.sources._record import Record


def read(workspace: Path, text: str, **params: object) -> list[Record]:
    """Write ``text`` as data/list.csv beside three image files and read it."""
    (workspace / "data" / "a").mkdir(parents=True, exist_ok=True)
    for name in ("a/1.png", "a/2.png", "3.png"):
        (workspace / "data" / name).write_bytes(b"not looked at here")
    (workspace / "data" / "list.csv").write_text(text, encoding="utf-8")
    return list(table.records(table.Params(**({"path": "data/list.csv"} | params)), Context(workspace, seed=0)))


def refusal(workspace: Path, text: str, **params: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read(workspace, text, **params)
    return caught.value


def test_every_column_finds_its_place(tmp_path):
    """Path, label, split and group are known; the rest are slices."""
    text = "path,label,split,group,scanner\na/1.png,benign,Validation,p1,north\na/2.png,,,,\n"
    first, second = read(tmp_path, text)

    assert Record(tmp_path / "data/a/1.png", "a/1.png", "benign", "val", "p1", {"scanner": "north"}) == first
    assert (None, None, None) == (second.label, second.split, second.group)


def test_labels_are_text(tmp_path):
    """01 keeps its zero, and NA is a class like any other."""
    assert ["01", "NA"] == [record.label for record in read(tmp_path, "path,label\na/1.png,01\na/2.png,NA\n")]


def test_columns_may_be_called_anything(tmp_path):
    """Names are settable."""
    names = {"path_column": "file", "label_column": "diagnosis"}

    assert ["x"] == [record.label for record in read(tmp_path, "file,diagnosis\n3.png,x\n", **names)]


def test_one_domain_of_several_can_be_taken(tmp_path):
    """Source and target may come from one table; the column stays a slice."""
    text = "path,label,domain\na/1.png,x,north\na/2.png,y,south\n"
    (record,) = read(tmp_path, text, domain="south")

    assert ("y", {"domain": "south"}) == (record.label, record.extras)
    assert "north, south" in refusal(tmp_path, text, domain="west").expected


def test_paths_may_have_a_root_of_their_own(tmp_path):
    """``root`` is what paths are relative to."""
    (record,) = read(tmp_path, "path\n1.png\n", root="data/a")

    assert (tmp_path / "data/a/1.png", "1.png") == (record.content, record.name)


def test_parquet_is_read_too(tmp_path):
    """Whole numbers are labels without a decimal point, even where a null made floats of them."""
    read(tmp_path, "path\n3.png\n")
    pd.DataFrame({"path": ["a/1.png", "a/2.png"], "label": [3, None]}).to_parquet(tmp_path / "data" / "list.parquet")
    records = table.records(table.Params(path="data/list.parquet"), Context(tmp_path, seed=0))

    assert ["3", None] == [record.label for record in records]


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "/etc/passwd"])
def test_no_path_leaves_the_root(tmp_path, path):
    """Neither upwards nor absolute."""
    error = refusal(tmp_path, f"path\n{path}\n")

    assert f"'{path}' in {tmp_path / 'data/list.csv'}" == error.found


def test_an_absolute_path_below_the_root_is_fine(tmp_path):
    """It says the same as the relative one."""
    (record,) = read(tmp_path, f"path\n{tmp_path}/data/3.png\n")

    assert "3.png" == record.name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an unreadable one (No columns to parse from file)"),
        ("path,label\n", "a table without rows"),
        ("path,label\n,x\n", "no path in its data row 1"),
        ("file,label\na/1.png,x\n", "the columns file, label"),
        ("path,split\n3.png,holdout\n", "'holdout' in {root}/data/list.csv"),
        ("path\nb/1.png\nb/2.png\n", "none of the 2: b/1.png, b/2.png (the first would be {root}/data/b/1.png)"),
        ("path;label\na.png;cat\n", "one whose columns are separated by semicolons"),
        ("path\tlabel\na.png\tcat\n", "one whose columns are separated by tabs"),
    ],
)
def test_unusable_tables_are_explained(tmp_path, text, found):
    """What was found is said in the user's words, not pandas'."""
    assert found.format(root=tmp_path) == refusal(tmp_path, text).found


def test_a_table_in_another_encoding(tmp_path):
    """Latin-1 from an old spreadsheet: the remedy says what to save it as."""
    read(tmp_path, "path\n3.png\n")
    (tmp_path / "data" / "list.csv").write_bytes("path,label\n3.png,Bär\n".encode("latin-1"))

    with pytest.raises(DataError, match="Save it as UTF-8 CSV"):
        list(table.records(table.Params(path="data/list.csv"), Context(tmp_path, seed=0)))


def test_a_missing_table(tmp_path):
    """Named with its full path."""
    with pytest.raises(DataError) as caught:
        table.records(table.Params(path="data/gone.csv"), Context(tmp_path, seed=0))

    assert f"a table at {tmp_path / 'data/gone.csv'}" == caught.value.expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"path": "data/list.csv"}, "data"),
        ({"path": "data/list.csv", "root": "data/images"}, "data"),
        ({"path": "data/tables/list.csv", "root": "data"}, "data"),
        ({"path": "/srv/data/list.csv"}, "/srv/data"),
    ],
)
def test_one_folder_holds_table_and_images(params, expected):
    """That folder is what a change is looked for in."""
    assert expected == table.location(table.Params(**params))


@pytest.mark.parametrize("params", [{"path": "list.csv"}, {"path": "tables/list.csv", "root": "images"}])
def test_table_and_images_apart_are_refused(params):
    """Half of the data would go untracked."""
    with pytest.raises(ValidationError, match="put the table and its images below one folder"):
        table.Params(**params)


def test_a_table_of_which_most_images_are_missing_is_told_once(tmp_path):
    """Three are named, the others counted; where most are there, a missing one is validate's to tell."""
    text = "path\n" + "".join(f"{number}.png\n" for number in range(4, 12))
    found = refusal(tmp_path, text + "3.png\n").found  # the last is there
    assert f"8 missing of 9: 4.png, 5.png, 6.png and 5 more (the first would be {tmp_path}/data/4.png)" == found


def test_only_some_images_of_a_large_table_are_looked_for(tmp_path, monkeypatch):
    """So many, drawn by lot: every other row missing, or every tenth, is seen as such."""
    looked_for = []
    monkeypatch.setattr(table.os.path, "isfile", lambda path: looked_for.append(path) or False)
    text = "path\n" + "".join(f"x/{number}.png\n" for number in range(5000))
    found = refusal(tmp_path, text).found
    assert 1000 == len(set(looked_for)) == len(looked_for)
    assert found.startswith("none of the 1,000 that were looked for, of 5,000 rows: x/")
    assert " and 997 more (the first would be " in found


def test_parts_of_a_table_join_without_a_seam(tmp_path, monkeypatch):
    """Read and given in parts of two rows, a table of five is the table of five."""
    text = "path,label,age\na/1.png,01,7\na/2.png,NA,\n3.png,,8\na/1.png,b,\n3.png,b,9\n"
    whole = read(tmp_path, text)
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 2)

    parts = read(tmp_path, text)
    assert list(map(repr, whole)) == list(map(repr, parts))  # NaN is not equal to itself
    assert [("a/1.png", "01"), ("a/2.png", "NA"), ("3.png", None)] == [(row.name, row.label) for row in parts[:3]]
