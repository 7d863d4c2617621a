"""The manifest: one row per image of one domain, kept as Parquet.

| Column | Type | Meaning |
|---|---|---|
| ``id`` | str | sha256 of the file's bytes, 64 hex digits |
| ``path`` | str | the file, or the shard that holds it; relative to the workspace, absolute where it lies outside |
| ``offset``, ``length`` | Int64 | position in the shard, bytes; null for a file of its own |
| ``name`` | str | what people call it: the path below the data root, or the member's name |
| ``label`` | str or null | class in the target's words; null = unlabelled |
| ``domain`` | str | ``source`` or ``target`` |
| ``split`` | str | ``train``, ``val`` or ``test`` |
| ``split_given`` | bool | the user's own split, kept as it came |
| ``group`` | str or null | images that must stay in one split |
| ``width``, ``height`` | Int64 | pixels, as stored (before EXIF rotation); null if unreadable |
| ``mode``, ``format`` | str | Pillow's words: ``RGB``, ``L``, …; ``JPEG``, ``PNG``, … |
| ``bytes`` | Int64 | file size |
| ``phash`` | str or null | 64-bit perceptual hash, 16 hex digits |
| ``brightness``, ``sharpness`` | Float64 | see :mod:`pipeline.data.exposure`; null if unreadable |
| ``error`` | str or null | why the image cannot be used |

Any further column came with the user's table and is a slice: metrics are given for each of its values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.files import replacing

SPLITS = ("train", "val", "test")

COLUMNS = {
    "id": "str",
    "path": "str",
    "offset": "Int64",
    "length": "Int64",
    "name": "str",
    "label": "str",
    "domain": "str",
    "split": "str",
    "split_given": "bool",
    "group": "str",
    "width": "Int64",
    "height": "Int64",
    "mode": "str",
    "format": "str",
    "bytes": "Int64",
    "phash": "str",
    "brightness": "Float64",
    "sharpness": "Float64",
    "error": "str",
}


@dataclass(frozen=True)
class Manifest:
    """Images of one domain. ``frame`` has the columns above, a clean 0…n-1 index and rows sorted by ``name``."""

    frame: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Self:
        """Bring ``rows`` into canonical form: missing columns null, types fixed, sorted by name.

        The order of the input does not matter: equal rows make an equal manifest.
        """
        frame = _completed(rows.copy())
        slices = sorted(column for column in rows.columns if column not in COLUMNS)
        for column in slices:
            if frame[column].dtype == object:  # mixed values: Parquet keeps one type per column
                frame[column] = frame[column].astype("str")
        ordered = frame[[*COLUMNS, *slices]]
        return cls(ordered.sort_values(["name", "id"], kind="stable", ignore_index=True))

    @classmethod
    def empty(cls) -> Self:
        return cls.of(pd.DataFrame())

    @classmethod
    def load(cls, path: Path) -> Self:
        """As saved, also by a version that knew fewer columns."""
        return cls(_completed(pd.read_parquet(path)))

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            self.frame.to_parquet(fresh, index=False, compression="zstd")

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def slices(self) -> list[str]:
        """Names of the user's own columns."""
        return [column for column in self.frame.columns if column not in COLUMNS]

    def where(self, keep: pd.Series) -> Manifest:
        """The rows for which ``keep`` is true, reindexed."""
        return Manifest(self.frame[keep].reset_index(drop=True))

    def split(self, *names: str) -> Manifest:
        return self.where(self.frame["split"].isin(names))

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """A number for each image, equal where they must stay together; None where no image names a group."""
        named = self.frame["group"]
        if not named.notna().any():
            return None
        return pd.factorize(named.where(named.notna(), self.frame["id"]))[0].astype(np.int64)

    @property
    def labelled(self) -> Manifest:
        return self.where(self.frame["label"].notna())

    @property
    def unlabelled(self) -> Manifest:
        return self.where(self.frame["label"].isna())


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column of ours, null where it was missing, in its type."""
    for column, kind in COLUMNS.items():
        if column not in frame:
            frame[column] = False if kind == "bool" else None
    return frame.astype(COLUMNS)
