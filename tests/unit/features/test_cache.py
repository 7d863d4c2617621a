"""The content-addressed store of features."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from pipeline.features.cache import FeatureCache


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
        segment = tmp_path / "cache" / f"segment-{number:04d}"
        segment.mkdir(parents=True)
        np.save(segment / "features.npy", np.full((1, 2), number, np.float32))
        (segment / "ids.txt").write_text(f"{number}\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    already_open = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (already_open + 64, hard))
    try:
        cache = FeatureCache(tmp_path / "cache")
        cache.add(["new"], np.full((1, 2), -1, np.float32))
        gathered = cache.gather([*map(str, range(1200)), "new"], 2, "float32")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [*range(1200), -1] == gathered[:, 0].tolist()
