"""The manifest's canonical form and its round trip through Parquet."""

from __future__ import annotations

import pandas as pd

from pipeline.data.manifest import COLUMNS, Manifest

ROWS = [
    {"id": "b" * 64, "name": "b.png", "label": None, "offset": None, "camera": "north", "iso": 100},
    {"id": "a" * 64, "name": "a.png", "label": "cat", "offset": 512, "camera": None, "iso": None},
]


def test_rows_are_sorted_by_name_and_columns_are_complete():
    """Whatever order rows come in, the manifest has one order, every column, then the slices in alphabetical order."""
    manifest = Manifest.of(pd.DataFrame(ROWS))

    assert ["a.png", "b.png"] == manifest.frame["name"].tolist()
    assert [*COLUMNS, "camera", "iso"] == manifest.frame.columns.tolist()
    assert ["camera", "iso"] == manifest.slices


def test_missing_values_stay_missing():
    """A null label is null, not the text "None"."""
    frame = Manifest.of(pd.DataFrame(ROWS)).frame

    assert [False, True] == frame["label"].isna().tolist()
    assert [False, True] == frame["offset"].isna().tolist()


def test_a_manifest_survives_the_round_trip(tmp_path):
    """Saved and loaded, values, nulls and types are the same."""
    manifest = Manifest.of(pd.DataFrame(ROWS))
    manifest.save(tmp_path / "manifest.parquet")

    pd.testing.assert_frame_equal(manifest.frame, Manifest.load(tmp_path / "manifest.parquet").frame)


def test_an_empty_manifest_survives_the_round_trip(tmp_path):
    """A project without a source has a manifest of no rows."""
    Manifest.empty().save(tmp_path / "empty.parquet")

    pd.testing.assert_frame_equal(Manifest.empty().frame, Manifest.load(tmp_path / "empty.parquet").frame)


def test_a_slice_of_mixed_values_becomes_text(tmp_path):
    """Parquet keeps one type per column; a user's column of numbers and words must not stop the run."""
    manifest = Manifest.of(pd.DataFrame({"id": ["a", "b"], "name": ["a", "b"], "site": [1, "north"]}))
    manifest.save(tmp_path / "mixed.parquet")

    assert ["1", "north"] == Manifest.load(tmp_path / "mixed.parquet").frame["site"].tolist()


def test_views_keep_only_their_rows():
    """``labelled``, ``unlabelled`` and ``split`` select rows and renumber them."""
    frame = pd.DataFrame(
        {"id": list("abc"), "name": list("abc"), "label": ["x", None, "x"], "split": ["train", "train", "val"]}
    )
    manifest = Manifest.of(frame)

    assert ["a", "c"] == manifest.labelled.frame["name"].tolist()
    assert ["b"] == manifest.unlabelled.frame["name"].tolist()
    assert [0] == manifest.split("val").frame.index.tolist()


def test_a_manifest_of_an_earlier_version_is_read_with_nulls_for_what_it_did_not_know(tmp_path):
    """An upgrade must not end in a traceback before ingest has run again."""
    path = tmp_path / "manifest.parquet"
    Manifest.of(pd.DataFrame({"name": ["a.png"], "id": ["0" * 64]})).frame.drop(columns=["brightness"]).to_parquet(path)
    loaded = Manifest.load(path).frame
    assert loaded["brightness"].isna().all()
    assert "Float64" == loaded["brightness"].dtype
