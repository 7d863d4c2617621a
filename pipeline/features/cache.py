"""A content-addressed store of features: what has once been computed is never computed again.

One folder per recipe (weights, preprocessing, number format), in it segments of up to some thousand images. A segment
is a folder written whole (``ids.txt``, ``features.npy``, ``digest.txt``) and never changed, so a kill loses at most the
images since the last one, and several writers cannot harm each other. Segments are open only while they are read: a
store that grew by small additions has thousands, and a process may keep some hundred files open.

A segment is compared with its digest when the first of its images is asked for. One that is no longer what was written
is removed, and one that cannot be read left out. That reads it whole, 6 ms for 8 MB, where most of it is gathered a
moment later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import digests
from pipeline.core.errors import ServiceError
from pipeline.core.files import replacing

IDS, FEATURES, DIGEST = "ids.txt", "features.npy", "digest.txt"

KEPT_DAYS = 90
"""A recipe that no run has asked for in so long is not expected back: monthly retraining has passed it over twice."""


class FeatureCache:
    """Features by image id, for one recipe; ``folder=None`` keeps them in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._segments: list[Path | np.ndarray] = []
        """Each segment's folder, or where there is none its features in memory."""
        self._place: dict[str, tuple[int, int]] = {}
        """Image id → segment number, row."""
        self._trusted: set[int] = set()
        self._damaged: set[int] = set()
        """Numbers of segments that were compared with their digests."""
        if folder is not None and folder.is_dir():
            with contextlib.suppress(OSError):  # in a workspace that may only be read
                os.utime(folder)  # when it was last asked for
            for digest in sorted(folder.glob(f"segment-*/{DIGEST}")):
                self.take_in(digest.parent)

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
        self._segments.append(segment)
        self._index(len(self._segments) - 1, _ids(segment))

    def _index(self, number: int, ids: list[str]) -> None:
        for row, image_id in enumerate(ids):
            self._place.setdefault(image_id, (number, row))

    def __contains__(self, image_id: str) -> bool:
        """Is it here, in a segment that is still what was written?"""
        while (place := self._place.get(image_id)) is not None:
            if self._is_whole(place[0]):
                return True
            self._leave_out(place[0])  # another segment may have the image too
        return False

    def __len__(self) -> int:
        """Images in all segments, damaged or not."""
        return len(self._place)

    def _is_whole(self, number: int) -> bool:
        segment = self._segments[number]
        if number not in self._trusted and isinstance(segment, Path) and not _is_as_written(segment):
            return False
        self._trusted.add(number)
        return True

    def _leave_out(self, number: int) -> None:
        self._damaged.add(number)
        self._place.clear()
        for other, segment in enumerate(self._segments):
            if isinstance(segment, Path) and other not in self._damaged:
                self._index(other, _ids(segment))

    def add(self, ids: list[str], features: np.ndarray) -> None:
        """Keep ``features`` [n, feature_dim] of ``ids`` as one segment."""
        if self._folder is None:
            self._segments.append(features)
            self._index(len(self._segments) - 1, ids)
            return
        self.take_in(write_segment(self._folder, ids, features))

    def gather(self, ids: Iterable[str], feature_dim: int, dtype: str) -> np.ndarray:
        """Features of ``ids`` in their order, [n, feature_dim].

        Raises:
            KeyError: one of them is not here, or no longer what was written.
        """
        wanted = list(ids)
        for image_id in wanted:
            if image_id not in self:
                raise KeyError(image_id)
        places = np.array([self._place[image_id] for image_id in wanted], dtype=np.int64).reshape(-1, 2)
        gathered = np.empty((len(places), feature_dim), dtype=dtype)
        by_segment = np.argsort(places[:, 0], kind="stable")
        numbers, starts = np.unique(places[by_segment, 0], return_index=True)
        for number, chosen in zip(numbers, np.split(by_segment, starts)[1:], strict=True):
            gathered[chosen] = _rows(self._segments[number], places[chosen, 1])
        return gathered


def forget_unused(recipes: Path) -> None:
    """Remove the folders in ``recipes``, one per recipe, that nobody has opened for :data:`KEPT_DAYS`.

    They are of a backbone that was given up, or of libraries and code before an upgrade.
    """
    with contextlib.suppress(OSError):  # somebody else is tidying up; the next run does the rest
        for folder in recipes.iterdir():
            if time.time() - folder.lstat().st_mtime > KEPT_DAYS * 86_400:
                shutil.rmtree(folder, ignore_errors=True)


class Gathered:
    """Features of some images in a cache, [n, feature_dim], read as parts of them are asked for: a million rows need
    not fit in memory to be copied into a table."""

    def __init__(self, cache: FeatureCache, ids: list[str], feature_dim: int, dtype: str) -> None:
        self._cache, self._ids = cache, ids
        self.shape, self.dtype = (len(ids), feature_dim), np.dtype(dtype)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows by number, slice or mask, as of an array.

        Raises:
            ServiceError: some have gone from the cache since the table was made.
        """
        chosen = np.arange(len(self._ids))[rows]
        try:
            found = self._cache.gather([self._ids[row] for row in chosen.flat], self.shape[1], self.dtype.name)
        except (KeyError, FileNotFoundError, ValueError) as error:
            raise _taken_away() from error
        return found.reshape(*chosen.shape, self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows, for numpy."""
        return self[:].astype(dtype or self.dtype, copy=False)


def _taken_away() -> ServiceError:
    return ServiceError(
        "Features that were in .graftline/cache a moment ago have gone: it was emptied, or a part of it is damaged.\n"
        "  Run again: what is missing is computed anew."
    )


def write_segment(folder: Path, ids: list[str], features: np.ndarray) -> Path:
    """One segment, whole; written twice, by whomever, it is the same."""
    segment = folder / f"segment-{digests.of_json(ids)[:16]}"
    with replacing(segment) as fresh:
        fresh.mkdir()
        np.save(fresh / FEATURES, features)
        (fresh / IDS).write_text("".join(f"{image_id}\n" for image_id in ids))
        (fresh / DIGEST).write_text(_digest(fresh))
    return segment


def _ids(segment: Path) -> list[str]:
    """Whatever they are: that they are those that were written, the digest says."""
    try:
        return (segment / IDS).read_text(errors="replace").split()
    except OSError:
        return []


def _digest(segment: Path) -> str:
    return digests.of_json([digests.of_file(segment / name) for name in (IDS, FEATURES)])


def _is_as_written(segment: Path) -> bool:
    """A segment that is damaged for good is removed: else every process that opens the store would find it anew."""
    try:
        is_whole = (segment / DIGEST).read_text(errors="replace") == _digest(segment)
    except FileNotFoundError:
        is_whole = False
    except OSError:  # of this moment, perhaps; nothing is known of what was written
        return False
    if not is_whole:
        shutil.rmtree(segment, ignore_errors=True)
    return is_whole


def _rows(segment: Path | np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of some rows; a file is mapped for as long as that takes."""
    features = np.load(segment / FEATURES, mmap_mode="r") if isinstance(segment, Path) else segment
    return np.array(features[rows])
