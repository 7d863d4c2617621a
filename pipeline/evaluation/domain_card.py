"""The domain card: enough of a run's target to compare the next run's with, in one small file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import replacing

MOST_IMAGES = 500

MOST_BYTES = 2**19
"""Of features: the pinned card lies in git, beside the profile of the data."""


@dataclass(frozen=True)
class DomainCard:
    """Features float16 [images, feature_dim] of some target images, and what made them. No pixels and no labels."""

    ids: list[str]
    features: NDArray[np.float16]
    backbone: str = ""
    backbone_digest: str = ""
    preprocessing_digest: str = ""

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        features: NDArray[np.floating],
        *,
        backbone: str,
        backbone_digest: str,
        preprocessing_digest: str,
    ) -> Self:
        """Keep those whose ids sort first: ids are digests, so the draw is fair, and it needs no seed."""
        most = min(MOST_IMAGES, MOST_BYTES // (2 * features.shape[1]))
        rows = sorted(range(len(ids)), key=ids.__getitem__)[:most]
        limit = float(np.finfo(np.float16).max)
        kept = np.clip(features[rows], -limit, limit).astype(np.float16)
        return cls([ids[row] for row in rows], kept, backbone, backbone_digest, preprocessing_digest)

    @classmethod
    def empty(cls) -> Self:
        """Stands for "there was no last run"."""
        return cls([], np.zeros((0, 0), dtype=np.float16))

    def __len__(self) -> int:
        return len(self.ids)

    def is_comparable(self, *, backbone_digest: str, preprocessing_digest: str) -> bool:
        """Did the same network make its features, from images prepared in the same way?"""
        return (self.backbone_digest, self.preprocessing_digest) == (backbone_digest, preprocessing_digest)

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path, allow_pickle=False) as kept:
            facts = json.loads(str(kept["facts"]))
            return cls(features=kept["features"], **facts)

    def save(self, path: Path) -> None:
        facts = {name: value for name, value in vars(self).items() if name != "features"}
        with replacing(path) as fresh, fresh.open("wb") as file:
            np.savez_compressed(file, features=self.features, facts=np.array(json.dumps(facts)))
