"""Images in folders: layouts, labels, splits, and what the user may get wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core.context import Context
from pipeline.core.errors import DataError
from pipeline.data.sources import image_folder


def records(root: Path, *names: str) -> dict[str, tuple[str | None, str | None]]:
    """Make the files, and what the source says of each: name → (label, split)."""
    for name in names:
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / name).write_bytes(b"not looked at here")
    found = image_folder.records(image_folder.Params(path="photos"), Context(root, seed=0))
    return {record.name: (record.label, record.split) for record in found}


def refusal(root: Path, *names: str) -> DataError:
    with pytest.raises(DataError) as caught:
        records(root, *names)
    return caught.value


def test_class_folders(tmp_path):
    """A folder is a class; what lies deeper belongs to it."""
    assert {"cat/1.jpg": ("cat", None), "dog/puppies/2.PNG": ("dog", None)} == records(
        tmp_path, "dog/puppies/2.PNG", "cat/1.jpg"
    )


def test_split_folders_above_class_folders(tmp_path):
    """Train, val and test go by many names."""
    found = records(tmp_path, "Training/cat/1.jpg", "valid/cat/2.jpg", "testing/dog/3.jpg")

    assert {("cat", "train"), ("cat", "val"), ("dog", "test")} == set(found.values())


def test_unlabelled_folders_and_loose_images(tmp_path):
    """An unlabelled/ folder, at the top or in a split, and images in no folder have no label."""
    found = records(tmp_path, "train/cat/1.jpg", "train/unlabelled/2.jpg", "test/3.jpg", "unlabeled/4.jpg", "5.jpg")

    assert found == {
        "5.jpg": (None, None),
        "test/3.jpg": (None, "test"),
        "train/cat/1.jpg": ("cat", "train"),
        "train/unlabelled/2.jpg": (None, "train"),
        "unlabeled/4.jpg": (None, None),
    }


def test_no_folders_at_all(tmp_path):
    """A heap of images is an unlabelled set."""
    assert {"a.jpg": (None, None), "b.jpg": (None, None)} == records(tmp_path, "b.jpg", "a.jpg")


def test_a_train_beside_a_bus_is_a_class(tmp_path):
    """One folder that happens to be called like a split is a vehicle."""
    assert {("bus", None), ("train", None)} == set(records(tmp_path, "bus/1.jpg", "train/1.jpg").values())


def test_order_does_not_depend_on_the_file_system(tmp_path):
    """Records come sorted by path, folder by folder."""
    found = records(tmp_path, "b/2.jpg", "a-b/1.jpg", "a/9.jpg", "b/10.jpg")

    assert ["a/9.jpg", "a-b/1.jpg", "b/10.jpg", "b/2.jpg"] == list(found)


def test_hidden_files_are_skipped_and_others_counted(tmp_path):
    """.DS_Store and .cache/ are nobody's business; a notes.txt is counted."""
    odd = ("a/Dr. No, (1)", os.fsdecode(b"a/notes.caf\xe9"))
    records(tmp_path, "a/1.jpg", ".cache/2.jpg", "a/.DS_Store", "a/notes.txt", "a/Thumbs.db", *odd)
    found = image_folder.records(image_folder.Params(path="photos"), Context(tmp_path, seed=0))

    assert (1, {".txt": 1, ".db": 1, "": 2}) == (found.total, found.left_out)


def test_a_circle_of_links_ends(tmp_path):
    """A linked folder is followed once."""
    records(tmp_path, "a/1.jpg")
    (tmp_path / "photos" / "a" / "again").symlink_to(tmp_path / "photos")

    assert ["a/1.jpg"] == list(records(tmp_path))


def test_a_linked_class_folder_is_followed(tmp_path):
    """Data often lie elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").write_bytes(b"x")
    records(tmp_path, "dog/1.jpg")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")

    assert {"cat/1.jpg": ("cat", None), "dog/1.jpg": ("dog", None)} == records(tmp_path)


def test_a_missing_folder(tmp_path):
    """The message names the folder, the setting and what to do."""
    error = refusal(tmp_path)

    assert f"no such folder: {tmp_path / 'photos'}" == error.found
    assert "path in params.yaml" == error.where
    assert "relative to the workspace" in error.remedy


def test_an_archive_instead_of_a_folder(tmp_path):
    """The user is told to unpack it."""
    (tmp_path / "photos").write_bytes(b"PK")

    assert "Unpack it and give the folder." == refusal(tmp_path).remedy


def test_an_empty_folder_and_one_without_images(tmp_path):
    """Empty is empty; a folder of other files says so."""
    (tmp_path / "photos").mkdir()

    assert f"an empty folder, {tmp_path / 'photos'}" == refusal(tmp_path).found
    assert f"2 other files and no image in {tmp_path / 'photos'}" == refusal(tmp_path, "a.txt", "b/c.csv").found


def test_splits_beside_classes_are_ambiguous(tmp_path):
    """train/ and test/ beside cat/: nobody can tell what is meant."""
    error = refusal(tmp_path, "train/cat/1.jpg", "test/cat/1.jpg", "cat/1.jpg")

    assert error.found.startswith("both: test, train beside cat in ")


def test_one_level_too_high(tmp_path):
    """An unpacked archive often has a folder of its own at the top."""
    error = refusal(tmp_path, "archive/cat/1.jpg", "archive/dog/1.jpg")

    assert f"Give the folder below: {tmp_path / 'photos' / 'archive'}." == error.remedy
