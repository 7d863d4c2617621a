"""Every answer on the test images, kept as Parquet: one row per image, in the manifest's order.

| Column | Type | Meaning |
|---|---|---|
| ``id``, ``name`` | str | as in the manifest |
| ``label`` | str or null | the true class; null where the image is not labelled |
| ``predicted`` | str | most probable class |
| ``confidence`` | float32 | its probability |
| ``correct`` | boolean or null | null where there is no label |
| ``probability_<class>`` | float32 | one column per class, in the model's order |
| ``champion_predicted`` | str or null | the champion's answer; null where there is none |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from pipeline.core.files import replacing
from pipeline.data.manifest import Manifest


@dataclass(frozen=True)
class Predictions:
    """``frame`` has the columns above."""

    frame: pd.DataFrame

    @classmethod
    def of(
        cls, manifest: Manifest, probabilities: np.ndarray, classes: list[str], champion: list[str] | None = None
    ) -> Self:
        """Join a manifest with the model's ``probabilities`` [images, classes] and the champion's answers."""
        best = probabilities.argmax(1) if len(manifest) else np.zeros(0, dtype=np.int64)
        label = manifest.frame["label"].astype("str").reset_index(drop=True)
        predicted = pd.Series([classes[number] for number in best], dtype="str")
        columns = {
            "id": manifest.frame["id"].reset_index(drop=True),
            "name": manifest.frame["name"].reset_index(drop=True),
            "label": label,
            "predicted": predicted,
            "confidence": probabilities[np.arange(len(best)), best].astype(np.float32),
            "correct": (label == predicted).astype("boolean").mask(label.isna()),
        }
        columns |= {f"probability_{name}": probabilities[:, number] for number, name in enumerate(classes)}
        columns["champion_predicted"] = pd.Series(champion if champion else [None] * len(best), dtype="str")
        return cls(pd.DataFrame(columns))

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(pd.read_parquet(path))

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            self.frame.to_parquet(fresh, index=False, compression="zstd")

    def __len__(self) -> int:
        return len(self.frame)
