"""Images as tensors, for training: decoded once and kept, where they fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.core.ahead import mapped_ahead
from pipeline.core.progress import track
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import plain_view, training_side_px, training_square

CPU = torch.device("cpu")

GPU_SHARE = 0.25
"""Of a GPU's free memory, at most, goes to one bank's images, or to what frozen blocks made of them: networks and their
gradients need the rest."""


class ImageBank:
    """The images of a manifest as uint8 squares [n, 3, side, side], reached by row.

    They are decoded and resized on first use and kept if they fit in ``budget_mb``, on the GPU that asks for them where
    they fit there too: one that waits for each batch to be gathered and copied does little else. Otherwise each fetch
    decodes anew.
    """

    def __init__(
        self, manifest: Manifest, store: ImageStore, preprocessing: Preprocessing, *, budget_mb: float = 2048
    ) -> None:
        self.manifest = manifest
        self.preprocessing = preprocessing
        self._store = store
        self._kept: Tensor | None = None
        self.budget_mb = budget_mb

    def __len__(self) -> int:
        return len(self.manifest)

    def __getstate__(self) -> dict[str, Any]:
        """Another process decodes for itself: what is kept here may be gigabytes."""
        return {**self.__dict__, "_kept": None}

    @property
    def _keeps(self) -> bool:
        return len(self) * 3 * training_side_px(self.preprocessing) ** 2 <= self.budget_mb * 1e6

    def share_memory(self, processes: int) -> None:
        """Be content with one part of the budget in ``processes``, where as many on this machine have such a bank."""
        self.budget_mb /= processes

    def fetch(self, rows: np.ndarray, device: torch.device = CPU) -> Tensor:
        """Training squares of ``rows`` on ``device``, uint8 [len(rows), 3, side, side]."""
        if not self._keeps:
            return self._squares(Manifest(self.manifest.frame.iloc[rows]), quiet=True).to(device)
        if self._kept is None:
            self._kept = self._squares(self.manifest, quiet=False)
        self._kept = self._kept.to(device if self._kept.is_cuda else placement(self._kept.numel(), device))
        return self._kept[torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self._kept.device)].to(device)

    def batches(self, steps: Sequence[np.ndarray], device: torch.device = CPU) -> Iterator[Tensor]:
        """:meth:`fetch` for each of ``steps``; images that are decoded anew are so while the batch before is in use."""
        if self._keeps:
            yield from (self.fetch(rows, device) for rows in steps)
            return
        yield from mapped_ahead(partial(self.fetch, device=device), steps, workers=1, per_thread=1)

    def plain_views(self, steps: Sequence[np.ndarray], device: torch.device = CPU) -> Iterator[Tensor]:
        """:meth:`batches` without augmentation, normalised float32 [len(rows), 3, size_px, size_px]."""
        return (plain_view(squares, self.preprocessing) for squares in self.batches(steps, device))

    @property
    def kept_on(self) -> torch.device | None:
        """Where decoded images lie; None while there are none."""
        return None if self._kept is None else self._kept.device

    @property
    def kept_mb(self) -> float:
        """Decoded images, in main memory or on the GPU."""
        return 0.0 if self._kept is None else self._kept.numel() / 1e6

    def forget(self) -> None:
        """Let the decoded images go; the next fetch decodes them anew."""
        self._kept = None

    def _squares(self, manifest: Manifest, *, quiet: bool) -> Tensor:
        side = training_side_px(self.preprocessing)
        squares = torch.empty((len(manifest), 3, side, side), dtype=torch.uint8)
        found: Iterator[Tensor]
        found = self._store.each(manifest, lambda image: training_square(as_tensor(image), self.preprocessing))
        if not quiet:
            found = track(found, what="decode", unit="images", total=len(manifest))
        for row, square in enumerate(found):
            squares[row] = square
        return squares


def placement(size: int, device: torch.device) -> torch.device:
    """Where ``size`` bytes lie that ``device`` asks for: there, unless they would take much of what a GPU has left."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if size <= GPU_SHARE * free else CPU


def as_tensor(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → uint8 tensor [3, H, W]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: decoded images are read-only
