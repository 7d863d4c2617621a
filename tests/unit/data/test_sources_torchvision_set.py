"""torchvision's sets, on miniature copies of their layouts on disk."""

from __future__ import annotations

import bz2
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.core.context import Context
from pipeline.core.errors import DataError, ServiceError
from pipeline.data.sources import torchvision_set
from pipeline.data.sources._record import Record


def read(root: Path, dataset: str, **params: object) -> list[Record]:
    chosen = torchvision_set.Params(dataset=dataset, root="tv", **params)
    return list(torchvision_set.records(chosen, Context(root, seed=0)))


def test_every_row_names_a_set_that_torchvision_has():
    """The table cannot go stale unnoticed."""
    from torchvision import datasets

    assert [] == [name for name in torchvision_set.SETS if not hasattr(datasets, name)]


def test_mnist_from_its_files(tmp_path):
    """Arrays become PNG; the official test part stays test; labels are plain digits."""
    raw = tmp_path / "tv" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, *images.shape) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 2) + bytes([7, 0]))
    records = read(tmp_path, "MNIST")

    assert [("7", "train"), ("0", "train"), ("7", "test"), ("0", "test")] == [(r.label, r.split) for r in records]
    np.testing.assert_array_equal(images[1], np.asarray(Image.open(io.BytesIO(records[1].content))))


def test_usps_from_its_files(tmp_path):
    """USPS counts its labels from 1; we say what the digit is."""
    (tmp_path / "tv").mkdir()
    line = "8 " + " ".join(f"{number}:0.5" for number in range(1, 257)) + "\n"
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / "tv" / name).write_bytes(bz2.compress(line.encode()))

    assert [("7", "train"), ("7", "test")] == [(record.label, record.split) for record in read(tmp_path, "USPS")]


def test_sets_of_files_stay_files(tmp_path):
    """EuroSAT is a folder of images: they are read where they are; it has no official split."""
    for name in ("Forest/2.jpg", "Forest/1.jpg", "River/1.jpg"):
        file = tmp_path / "tv" / "eurosat" / "2750" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not looked at here")
    records = read(tmp_path, "EuroSAT")

    assert [("Forest", None), ("Forest", None), ("River", None)] == [(record.label, record.split) for record in records]
    assert "eurosat/2750/Forest/1.jpg" == records[0].name
    assert tmp_path / "tv" / "eurosat/2750/Forest/1.jpg" == records[0].content


class FakeSTL10:
    """torchvision's interface to STL10, whose files are gigabytes."""

    classes = ("airplane", "bird")

    def __init__(self, root: str, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (96, 96), (number, 0, 0)), -1 if self.split == "unlabeled" else number


def test_the_unlabelled_part_of_stl10(tmp_path, monkeypatch):
    """It is training data without labels, and its class number -1 is nobody's label."""
    monkeypatch.setattr("torchvision.datasets.STL10", FakeSTL10)
    found = [(record.name, record.label, record.split) for record in read(tmp_path, "STL10")]

    assert ("train/000001.png", "bird", "train") == found[1]
    assert ("test/000000.png", "airplane", "test") == found[2]
    assert ("unlabelled/000001.png", None, "train") == found[5]


@pytest.mark.parametrize("dataset", sorted(torchvision_set.SETS))
def test_a_set_that_is_not_there_is_a_users_mistake(tmp_path, dataset):
    """No error of torchvision's leaks, whichever the set."""
    (tmp_path / "tv").mkdir()
    with pytest.raises(DataError) as caught:
        read(tmp_path, dataset)

    assert caught.value.expected.startswith(f"torchvision's {dataset}")
    assert "download: true" in caught.value.remedy


def test_a_failed_download_is_not_the_users_mistake(tmp_path, monkeypatch):
    """The server did not answer."""
    from urllib.error import URLError

    def unreachable(**arguments: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", unreachable)
    with pytest.raises(ServiceError) as caught:
        read(tmp_path, "CIFAR10", download=True)

    assert "CIFAR10 could not be downloaded: no route to host" == str(caught.value)


def test_an_unknown_set_lists_the_known_ones():
    """The params refuse it before anything is read."""
    with pytest.raises(ValidationError, match="unknown data set 'CIFAR11'; there are: CIFAR10"):
        torchvision_set.Params(dataset="CIFAR11")


def test_what_ingest_downloads_is_no_dependency():
    """A root that exists already is; one that is yet to be filled is not."""
    assert "tv" == torchvision_set.location(torchvision_set.Params(dataset="DTD", root="tv"))
    assert torchvision_set.location(torchvision_set.Params(dataset="DTD", root="tv", download=True)) is None
