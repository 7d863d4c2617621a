"""What was computed before: recalled where it can be, and never in the way."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from pipeline.core.known import Known
from pipeline.features.cache import FeatureCache

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def fresh(rows: int = 3) -> np.ndarray:
    return np.full((rows, 2), np.nan, dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureCache(tmp_path)


def test_recalls_what_it_remembers_and_names_the_others(store):
    """Rows in the order that is asked for; the numbers of the others in order."""
    known, found = Known(store, "rows"), fresh(5)
    known.remember(["a", "b", "c"], ROWS)
    assert [1, 3] == known.recall(["c", "new", "a", "other", "c"], found)
    assert [[4, 5], [0, 1], [4, 5]] == found[[0, 2, 4]].tolist()
    assert np.isnan(found[[1, 3]]).all()


def test_nothing_to_ask_is_nothing_to_do(store, tmp_path):
    known = Known(store, "rows")
    assert [] == known.recall([], fresh(0))
    known.remember([], fresh(0))
    assert [] == list(tmp_path.iterdir())


def test_without_a_store_nothing_is_known_or_kept():
    known = Known(None, "rows")
    known.remember(["a"], ROWS[:1])
    assert [0] == known.recall(["a"], fresh(1))


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), KeyError("a"), ValueError("of another shape")])
def test_what_is_lost_in_the_moment_is_new(store, monkeypatch, error):
    """All of it: what was filled in is not to be trusted."""
    known = Known(store, "rows")
    known.remember(["a", "b"], ROWS[:2])

    def losing(*_):
        raise error

    monkeypatch.setattr(store, "gather", losing)
    assert [0, 1, 2] == known.recall(["a", "b", "c"], fresh())


def test_rows_of_another_length_are_new(store):
    """Such as answers of a file with other classes."""
    known = Known(store, "rows")
    known.remember(["a"], ROWS[:1])
    assert [0] == known.recall(["a"], np.empty((1, 3), dtype=np.float32))


def test_a_full_disk_is_told_once(store, monkeypatch, capsys):
    """Nothing more is tried, and what was kept before is forgotten with it."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    known = Known(store, "rows")
    known.remember(["a"], ROWS[:1])
    monkeypatch.setattr(store, "add", full)
    for _ in range(2):
        known.remember(["b"], ROWS[1:2])
    assert (
        "  rows could not be kept, and are computed anew: [Errno 28] No space left on device\n"
        == capsys.readouterr().out
    )
    assert [0] == known.recall(["a"], fresh(1))
