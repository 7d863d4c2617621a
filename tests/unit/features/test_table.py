"""Tables of features, and how they are written from the cache."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import ServiceError
from pipeline.features import table as tables
from pipeline.features.cache import FeatureCache, Gathered
from pipeline.features.table import FeatureTable, TableFacts


def a_table(folder: Path, rows: int, feature_dim: int, dtype: str = "float32") -> tuple[FeatureTable, np.ndarray]:
    """Of a cache on disk, in another order than it has; and its features as an array."""
    features = np.random.default_rng(0).normal(size=(rows, feature_dim)).astype(dtype)
    ids = [f"image{number}" for number in range(rows)]
    cache = FeatureCache(folder)
    for start in range(0, rows, 1000):
        cache.add(ids[start : start + 1000], features[start : start + 1000])
    facts = TableFacts(
        backbone="", backbone_digest="", preprocessing_digest="", dtype=dtype, count=rows, feature_dim=feature_dim
    )
    return FeatureTable(facts, ids[::-1], Gathered(cache, ids[::-1], feature_dim, dtype)), features[::-1]


@pytest.mark.parametrize(
    "rows", [3, -1, slice(2, 5), slice(None), slice(7, 2, -2), np.array([4, 4, 0]), np.arange(9) % 2 == 0, np.arange(0)]
)
def test_rows_are_asked_for_as_of_an_array(tmp_path: Path, rows: Any) -> None:
    table, features = a_table(tmp_path, 9, 3)
    assert np.array_equal(features[rows], table.features[rows])
    assert features.shape == table.features.shape
    assert features.dtype == table.features.dtype


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rows", [0, 1, 4, 9])
def test_a_table_is_written_in_parts_as_numpy_would_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, dtype: str
) -> None:
    """To the byte, however many rows are left for the last part, and loaded it is what it was."""
    monkeypatch.setattr(tables, "PART_BYTES", 4 * 3 * np.dtype(dtype).itemsize)
    table, features = a_table(tmp_path / "cache", rows, 3, dtype)
    table.save(tmp_path / "table")
    np.save(tmp_path / "whole.npy", np.ascontiguousarray(features))
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "table" / "features.npy").read_bytes()
    again = FeatureTable.load(tmp_path / "table")
    assert (table.ids, table.facts) == (again.ids, again.facts)
    assert np.array_equal(table.array, again.array)


@pytest.mark.parametrize(
    "work", [lambda table, folder: table.save(folder / "table"), lambda table, _: table.not_finite]
)
def test_a_table_larger_than_memory_passes_through_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[FeatureTable, Path], object]
) -> None:
    """Written, and looked through for what is not finite: 8 MB of features in less than four."""
    monkeypatch.setattr(tables, "PART_BYTES", 2**20)
    table, _ = a_table(tmp_path / "cache", 2000, 1024)
    tracemalloc.start()
    try:
        work(table, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.features.shape[0] * 1024 * 4 > 8e6
    assert peak < 4e6


def test_features_that_go_before_they_are_written_are_told(tmp_path: Path) -> None:
    """The cache may be emptied at any time; nothing is written then, and the next run computes them."""
    table, _ = a_table(tmp_path / "cache", 9, 3)
    assert not len(table.not_finite)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ServiceError, match=r"have gone: it was emptied.*\n.*Run again"):
        table.save(tmp_path / "table")
    assert not (tmp_path / "table").exists()
