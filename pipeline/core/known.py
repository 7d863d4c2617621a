"""What has been computed of an image before, where it is kept: recalled, and added to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Store(Protocol):
    """Rows of figures by image id."""

    def __contains__(self, image_id: str) -> bool: ...

    def add(self, ids: list[str], rows: np.ndarray) -> object:
        """Keep a row for each of ``ids``."""

    def gather(self, ids: Iterable[str], dim: int, dtype: str) -> np.ndarray:
        """The rows of ``ids``, in their order, each of ``dim`` figures."""


class Known:
    """A store that may fail: what it has lost, or cannot keep, is computed anew, and costs no figure.

    Args:
        store: None knows and keeps nothing.
        what: the rows are, for people: ``features of corrupted images``.
    """

    def __init__(self, store: Store | None, what: str) -> None:
        self._store, self._what = store, what

    def recall(self, ids: Sequence[str], found: NDArray[np.float32]) -> list[int]:
        """Fill the rows of ``found`` [ids, figures] that are known; returns the numbers of the others, in order."""
        if self._store is None:
            return list(range(len(ids)))
        known = [row for row, image_id in enumerate(ids) if image_id in self._store]
        try:
            found[known] = self._store.gather([ids[row] for row in known], found.shape[1], found.dtype.name)
        except (OSError, KeyError, ValueError):  # gone since we asked, or of another shape
            known = []
        return sorted(set(range(len(ids))) - set(known))

    def remember(self, ids: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Keep a row for each of ``ids``; where the disk is full nothing more is kept, and a line says so."""
        if self._store is None or not len(ids):
            return
        try:
            self._store.add(list(ids), rows)
        except OSError as error:
            print(f"  {self._what} could not be kept, and are computed anew: {error}", flush=True)
            self._store = None
