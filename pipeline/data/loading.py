"""Images as tensors, for training: decoded once and kept, where they fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.core.progress import track
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import training_side_px, training_square


class ImageBank:
    """The images of a manifest as uint8 squares [n, 3, side, side], reached by row.

    They are decoded and resized on first use and kept if they fit in ``budget_mb``; otherwise each fetch decodes anew.
    """

    def __init__(
        self, manifest: Manifest, store: ImageStore, preprocessing: Preprocessing, *, budget_mb: float = 2048
    ) -> None:
        self.manifest = manifest
        self.preprocessing = preprocessing
        self._store = store
        self._kept: Tensor | None = None
        self._keeps = len(manifest) * 3 * training_side_px(preprocessing) ** 2 <= budget_mb * 1e6

    def __len__(self) -> int:
        return len(self.manifest)

    def fetch(self, rows: np.ndarray) -> Tensor:
        """Training squares of ``rows``, uint8 [len(rows), 3, side, side]."""
        if not self._keeps:
            return self._squares(Manifest(self.manifest.frame.iloc[rows]), quiet=True)
        if self._kept is None:
            self._kept = self._squares(self.manifest, quiet=False)
        return self._kept[torch.from_numpy(np.asarray(rows, dtype=np.int64))]

    @property
    def kept_mb(self) -> float:
        """Decoded images in memory."""
        return 0.0 if self._kept is None else self._kept.numel() / 1e6

    def forget(self) -> None:
        """Let the decoded images go; the next fetch decodes them anew."""
        self._kept = None

    def _squares(self, manifest: Manifest, *, quiet: bool) -> Tensor:
        side = training_side_px(self.preprocessing)
        squares = torch.empty((len(manifest), 3, side, side), dtype=torch.uint8)
        pixels: Iterator[np.ndarray] = self._store.pixels(manifest)
        if not quiet:
            pixels = track(pixels, what="decode", unit="images", total=len(manifest))
        for row, image in enumerate(pixels):
            squares[row] = training_square(as_tensor(image), self.preprocessing)
        return squares


def as_tensor(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → uint8 tensor [3, H, W]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: decoded images are read-only
