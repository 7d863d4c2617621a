"""The domain card: enough of a run's target to compare the next run's with, in one small file.

Features of some images stand for the whole; the ids of all of them tell which images of the next run are new.
"""

from __future__ import annotations

import hashlib
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
    """Features of some target images, what made them, and who was there. No pixels and no labels."""

    known: NDArray[np.uint64]
    """Eight bytes of a digest of the id of every image of the run, sorted: among a million images, another one is taken
    for one of them once in 10¹³ times."""
    features: NDArray[np.float16]
    """[images, feature_dim], of at most :data:`MOST_IMAGES`."""
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
        """Keep all ids, and the features of those that sort first: ids are digests, so the draw is fair and needs no
        seed."""
        most = min(MOST_IMAGES, MOST_BYTES // (2 * features.shape[1]))
        rows = sorted(range(len(ids)), key=ids.__getitem__)[:most]
        limit = float(np.finfo(np.float16).max)
        kept = np.clip(features[rows], -limit, limit).astype(np.float16)
        return cls(np.sort(_shortened(ids)), kept, backbone, backbone_digest, preprocessing_digest)

    @classmethod
    def empty(cls) -> Self:
        """Stands for "there was no last run"."""
        return cls(np.zeros(0, dtype=np.uint64), np.zeros((0, 0), dtype=np.float16))

    def __len__(self) -> int:
        """Images that there are features of."""
        return len(self.features)

    def knows(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which of these images the run had, [images], whether or not their features are kept."""
        return np.isin(_shortened(ids), self.known)

    def is_comparable(self, *, backbone_digest: str, preprocessing_digest: str) -> bool:
        """Did the same network make its features, from images prepared in the same way?"""
        return (self.backbone_digest, self.preprocessing_digest) == (backbone_digest, preprocessing_digest)

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path, allow_pickle=False) as kept:
            facts = json.loads(str(kept["facts"]))
            return cls(known=kept["known"], features=kept["features"], **facts)

    def save(self, path: Path) -> None:
        facts = {name: value for name, value in vars(self).items() if name not in ("known", "features")}
        with replacing(path) as fresh, fresh.open("wb") as file:
            np.savez_compressed(file, known=self.known, features=self.features, facts=np.array(json.dumps(facts)))


def _shortened(ids: Sequence[str]) -> NDArray[np.uint64]:
    """The first eight bytes of each id's sha256."""
    heads = b"".join(hashlib.sha256(image_id.encode()).digest()[:8] for image_id in ids)
    return np.frombuffer(heads, dtype=">u8").astype(np.uint64)
