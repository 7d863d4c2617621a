"""A content-addressed store of features: what has once been computed is never computed again.

One folder per recipe (weights, preprocessing, number format), in it segments of up to some thousand images. A segment
is a folder written whole (``ids.txt``, ``features.npy``) and never changed, so a kill loses at most the images since
the last one, and several writers cannot harm each other. Segments are open only while they are read: a store that grew
by small additions has thousands, and a process may keep some hundred files open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.core import digests
from pipeline.core.files import replacing


class FeatureCache:
    """Features by image id, for one recipe; ``folder=None`` keeps them in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._segments: list[Path | np.ndarray] = []
        """Where each segment's features are: on disk, or in memory where there is no folder."""
        self._place: dict[str, tuple[int, int]] = {}
        """Image id → segment number, row."""
        for segment in sorted(folder.glob("segment-*")) if folder is not None and folder.is_dir() else []:
            self.take_in(segment)

    @property
    def is_on_disk(self) -> bool:
        """Can other processes add to it?"""
        return self._folder is not None

    @property
    def keep(self) -> Callable[[list[str], np.ndarray], Path | None]:
        """Stores features [n, feature_dim] of ids; in another process too, whose segment is then to be taken in."""
        return self.add if self._folder is None else partial(write_segment, self._folder)

    def take_in(self, segment: Path) -> None:
        """Know of a segment that has been written."""
        self._index((segment / "ids.txt").read_text().split(), segment / "features.npy")

    def _index(self, ids: list[str], features: Path | np.ndarray) -> None:
        number = len(self._segments)
        self._segments.append(features)
        for row, image_id in enumerate(ids):
            self._place.setdefault(image_id, (number, row))

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._place

    def __len__(self) -> int:
        return len(self._place)

    def add(self, ids: list[str], features: np.ndarray) -> None:
        """Keep ``features`` [n, feature_dim] of ``ids`` as one segment."""
        if self._folder is None:
            self._index(ids, features)
            return
        self.take_in(write_segment(self._folder, ids, features))

    def gather(self, ids: Iterable[str], feature_dim: int, dtype: str) -> np.ndarray:
        """Features of ``ids`` in their order, [n, feature_dim].

        Raises:
            KeyError: one of them is not here.
        """
        places = np.array([self._place[image_id] for image_id in ids], dtype=np.int64).reshape(-1, 2)
        gathered = np.empty((len(places), feature_dim), dtype=dtype)
        by_segment = np.argsort(places[:, 0], kind="stable")
        numbers, starts = np.unique(places[by_segment, 0], return_index=True)
        for number, (start, end) in zip(numbers, pairwise([*starts, len(by_segment)]), strict=True):
            chosen = by_segment[start:end]
            gathered[chosen] = _rows(self._segments[number], places[chosen, 1])
        return gathered


def write_segment(folder: Path, ids: list[str], features: np.ndarray) -> Path:
    """One segment, whole; written twice, by whomever, it is the same."""
    segment = folder / f"segment-{digests.of_json(ids)[:16]}"
    with replacing(segment) as fresh:
        fresh.mkdir()
        np.save(fresh / "features.npy", features)
        (fresh / "ids.txt").write_text("".join(f"{image_id}\n" for image_id in ids))
    return segment


def _rows(segment: Path | np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of some rows; a file is mapped for as long as that takes."""
    features = np.load(segment, mmap_mode="r") if isinstance(segment, Path) else segment
    return np.array(features[rows])
