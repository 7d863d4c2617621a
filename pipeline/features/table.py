"""Features of the images of one manifest, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.core.files import Document, replacing, write_text
from pipeline.data.manifest import Manifest

ROWS_AT_ONCE = 4096
"""Read of a memory-mapped table at a time."""


class TableFacts(Document):
    """``table.json``: what the numbers beside it are."""

    backbone: str
    backbone_digest: str
    preprocessing_digest: str
    dtype: str
    count: int
    feature_dim: int


@dataclass(frozen=True)
class FeatureTable:
    """A folder: ``features.npy`` [n, feature_dim], ``ids.txt`` (one image id per row) and ``table.json``.

    Rows are aligned with the manifest they were made for; ``features`` is memory-mapped when loaded.
    """

    facts: TableFacts
    ids: list[str]
    features: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Self:
        features = np.load(path / "features.npy", mmap_mode="r")
        return cls(TableFacts.load(path / "table.json"), (path / "ids.txt").read_text().split(), features)

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            fresh.mkdir()
            np.save(fresh / "features.npy", self.features)
            write_text(fresh / "ids.txt", "".join(f"{image_id}\n" for image_id in self.ids))
            self.facts.save(fresh / "table.json")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def not_finite(self) -> np.ndarray:
        """Row numbers of the images with NaN or infinity among their features, int64; read in parts."""
        parts = range(0, len(self), ROWS_AT_ONCE)
        finite = [np.isfinite(self.features[start : start + ROWS_AT_ONCE]).all(axis=1) for start in parts]
        return np.flatnonzero(~np.concatenate(finite)) if finite else np.zeros(0, np.int64)

    def of(self, manifest: Manifest) -> np.ndarray:
        """Features of the manifest's rows in its order, float32 [n, feature_dim]; any subset of this table's images.

        Raises:
            KeyError: an image of the manifest is not in the table.
        """
        row = {image_id: number for number, image_id in enumerate(self.ids)}
        rows = np.array([row[image_id] for image_id in manifest.frame["id"]], dtype=np.int64)
        return np.asarray(self.features[rows], dtype=np.float32)
