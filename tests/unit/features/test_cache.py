"""The content-addressed store of features."""

from __future__ import annotations

import errno
import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.features.cache import KEPT_DAYS, FeatureCache, _digest, forget_unused, write_segment


def test_gathers_over_segments_in_the_order_asked_for(tmp_path: Path) -> None:
    """Segments are an inside matter; a reopened cache answers the same."""
    cache = FeatureCache(tmp_path / "cache")
    cache.add(["a", "b"], np.array([[1.0], [2.0]], np.float32))
    cache.add(["c"], np.array([[3.0]], np.float32))
    for store in (cache, FeatureCache(tmp_path / "cache")):
        assert [3, 1, 2, 1] == store.gather(["c", "a", "b", "a"], 1, "float32").ravel().tolist()
        assert 3 == len(store)


def test_nothing_asked_for_is_an_empty_table(tmp_path: Path) -> None:
    """A source that is not there has no features, and a width all the same."""
    cache = FeatureCache(tmp_path)
    cache.add(["a"], np.ones((1, 3), np.float32))
    assert cache.gather([], 3, "float32").shape == (0, 3)


def test_half_a_segment_is_no_segment(tmp_path: Path) -> None:
    """What a killed writer leaves behind under a temporary name is not seen."""
    cache = FeatureCache(tmp_path / "cache")
    cache.add(["a"], np.zeros((1, 1), np.float32))
    (tmp_path / "cache" / ".segment-dead.x" / "segment-dead").mkdir(parents=True)
    assert 1 == len(FeatureCache(tmp_path / "cache"))


def test_two_writers_of_the_same_images_do_no_harm(tmp_path: Path) -> None:
    """Equal segments have equal names; the later one replaces the earlier by the same content."""
    for _ in range(2):
        FeatureCache(tmp_path / "cache").add(["a"], np.ones((1, 1), np.float32))
    assert 1 == len(list((tmp_path / "cache").glob("segment-*")))


def test_a_recipe_that_nobody_asks_for_is_forgotten(tmp_path: Path) -> None:
    """After ninety days, counted from when it was last opened and not from when it was last written."""
    for name in ("given up", "in use", "new"):
        FeatureCache(tmp_path / name).add(["a"], np.ones((1, 1), np.float32))
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    for name in ("given up", "in use"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    FeatureCache(tmp_path / "in use")
    forget_unused(tmp_path)
    assert {"in use", "new"} == {path.name for path in tmp_path.iterdir()}
    forget_unused(tmp_path / "not there")


def test_an_unknown_image_is_a_key_error() -> None:
    """Also in memory, where no folder is given."""
    cache = FeatureCache(None)
    cache.add(["a"], np.ones((1, 2), np.float32))
    assert "a" in cache
    with pytest.raises(KeyError):
        cache.gather(["b"], 2, "float32")


def test_thousands_of_segments_need_no_open_files(tmp_path: Path) -> None:
    """A data set that grows a little every day: 1,200 segments are read under a limit of 64 open files."""
    for number in range(1200):
        segment = tmp_path / "cache" / f"segment-{number:04d}"  # as write_segment, without waiting for the disk
        segment.mkdir(parents=True)
        np.save(segment / "features.npy", np.full((1, 2), number, np.float32))
        (segment / "ids.txt").write_text(f"{number}\n")
        (segment / "digest.txt").write_text(_digest(segment))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    already_open = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (already_open + 64, hard))
    try:
        cache = FeatureCache(tmp_path / "cache")
        cache.add(["new"], np.full((1, 2), -1, np.float32))
        assert all(str(number) in cache for number in range(1200))
        gathered = cache.gather([*map(str, range(1200)), "new"], 2, "float32")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [*range(1200), -1] == gathered[:, 0].tolist()


IDS = [f"{number:064x}" for number in range(50)]
ROWS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


def known(folder: Path) -> dict[str, np.ndarray]:
    """What a reopened cache says of each image that it has."""
    cache = FeatureCache(folder)
    return {image_id: cache.gather([image_id], 8, "float32")[0] for image_id in IDS if image_id in cache}


@pytest.mark.parametrize("name", ["features.npy", "ids.txt", "digest.txt"])
def test_a_flipped_bit_is_no_feature(tmp_path: Path, name: str) -> None:
    """Wherever it flipped, no image of that segment is known any more, and written again they are all there.

    The segment is gone, so that the next process does not find it damaged anew.
    """
    file = write_segment(tmp_path, IDS, ROWS) / name
    whole, random = file.read_bytes(), np.random.default_rng(1)
    for place in random.integers(0, 8 * len(whole), 40):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        with pytest.raises(KeyError):
            FeatureCache(tmp_path).gather(IDS, 8, "float32")
        assert [] == list(tmp_path.iterdir())
        assert {} == known(tmp_path)
        write_segment(tmp_path, IDS, ROWS)
    found = known(tmp_path)
    assert np.array_equal(ROWS, [found[image_id] for image_id in IDS])


def test_a_segment_that_cannot_be_read_now_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file descriptor is left, or the network disk is away: it counts as absent, and the next process finds it."""
    write_segment(tmp_path, IDS, ROWS)

    def out_of_files(_: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.features.cache._digest", out_of_files)
        assert {} == known(tmp_path)
    assert set(IDS) == known(tmp_path).keys()


@pytest.mark.parametrize("name", ["features.npy", "ids.txt", "digest.txt"])
@pytest.mark.parametrize("share", [None, 0, 0.5])
def test_a_segment_that_lost_a_file_or_half_of_one_is_none(tmp_path: Path, name: str, share: float | None) -> None:
    """The images of another segment are still there, also those that both have."""
    other = write_segment(tmp_path, IDS[:20], ROWS[:20])
    file = write_segment(tmp_path, IDS[10:], ROWS[10:]) / name
    if share is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    found = known(tmp_path)
    assert found.keys() == set(IDS[:20]), other
    assert np.array_equal(ROWS[:20], [found[image_id] for image_id in IDS[:20]])
