"""Features of the images of one manifest, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.core.files import Document, replacing
from pipeline.data.manifest import Manifest
from pipeline.features.cache import Gathered

PART_BYTES = 2**26
"""Of a table in memory at a time, where all of it is looked at or written: enough to open few segments twice."""


class TableFacts(Document):
    """``table.json``: what the numbers beside it are."""

    backbone: str
    backbone_digest: str
    preprocessing_digest: str
    dtype: str
    count: int
    feature_dim: int
    recipe: str = ""
    """As :func:`pipeline.features.engines.recipe` says; empty where nobody knows how they were computed."""


@dataclass(frozen=True)
class FeatureTable:
    """A folder: ``features.npy`` [n, feature_dim], ``ids.txt`` (one image id per row) and ``table.json``.

    Rows are aligned with the manifest they were made for; ``features`` is memory-mapped when loaded, and read from the
    cache in parts when fresh.
    """

    facts: TableFacts
    ids: list[str]
    features: np.ndarray | Gathered

    @classmethod
    def load(cls, path: Path) -> Self:
        features = np.load(path / "features.npy", mmap_mode="r")
        return cls(TableFacts.load(path / "table.json"), (path / "ids.txt").read_text().split(), features)

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            fresh.mkdir()
            self._save_features(fresh / "features.npy")
            with (fresh / "ids.txt").open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{image_id}\n" for image_id in self.ids)
            self.facts.save(fresh / "table.json")

    @property
    def array(self) -> np.ndarray:
        """All features, [n, feature_dim]: mapped and not read where the table was loaded."""
        return np.asarray(self.features)

    def _save_features(self, path: Path) -> None:
        """As ``numpy.save`` would, to the byte, with some rows in memory at a time."""
        kind = np.lib.format.dtype_to_descr(self.features.dtype)
        with path.open("wb") as file:
            header = {"descr": kind, "fortran_order": False, "shape": self.features.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for rows in self._parts():
                file.write(np.ascontiguousarray(self.features[rows]).data)

    def _parts(self) -> Iterator[slice]:
        """All rows, some at a time."""
        rows = max(1, PART_BYTES // (self.facts.feature_dim * self.features.dtype.itemsize))
        for start in range(0, len(self), rows):
            yield slice(start, start + rows)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def not_finite(self) -> np.ndarray:
        """Row numbers of the images with NaN or infinity among their features, int64; read in parts."""
        finite = [np.isfinite(self.features[rows]).all(axis=1) for rows in self._parts()]
        return np.flatnonzero(~np.concatenate(finite)) if finite else np.zeros(0, np.int64)

    def of(self, manifest: Manifest) -> np.ndarray:
        """Features of the manifest's rows in its order, float32 [n, feature_dim]; any subset of this table's images.

        Raises:
            KeyError: an image of the manifest is not in the table.
        """
        row = {image_id: number for number, image_id in enumerate(self.ids)}
        rows = np.array([row[image_id] for image_id in manifest.frame["id"]], dtype=np.int64)
        return np.asarray(self.features[rows], dtype=np.float32)
