"""Archives that unpack to more than they are."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.archives import check_not_packed, unpacked_bytes


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """40 MB of zeros in two entries, in a file of 40 kB."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b"):
            archive.writestr(name, bytes(20_000_000))
    return path


def test_arrays_as_numpy_writes_them_are_not_packed(tmp_path: Path) -> None:
    """Nor is what is no archive at all."""
    np.savez(tmp_path / "arrays.npz", weights=np.zeros(1000))
    (tmp_path / "text").write_text("no archive")
    for name in ("arrays.npz", "text"):
        assert unpacked_bytes(tmp_path / name) is None
        check_not_packed(tmp_path / name)


def test_a_packed_archive_tells_what_it_unpacks_to(bomb: Path) -> None:
    """All of its entries together; one packed entry among others is enough."""
    assert unpacked_bytes(bomb) == 40_000_000
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("c", b"as it is")
    assert unpacked_bytes(bomb) == 40_000_008


def test_packed_is_packed_also_where_it_gained_nothing(tmp_path: Path) -> None:
    """Random bytes get no smaller."""
    with zipfile.ZipFile(tmp_path / "noise.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", np.random.default_rng(0).bytes(1000))
    assert unpacked_bytes(tmp_path / "noise.npz") == 1000 < (tmp_path / "noise.npz").stat().st_size


def test_a_packed_archive_is_refused_in_words(bomb: Path) -> None:
    """The message says how large it is, and how large it would be."""
    with pytest.raises(ValueError) as caught:
        check_not_packed(bomb)
    assert str(caught.value) == "0.0 MB that are packed and unpack to 40 MB"


def test_entries_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    """A bomb without compression: the same bytes are listed again and again."""
    path = tmp_path / "overlapping.npz"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a", bytes(100_000))
        archive.filelist.extend(archive.filelist * 9)
    assert unpacked_bytes(path) == 1_000_000
