"""Images as tensors, for training: decoded once and kept, where they fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipeline.core.progress import track
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import training_side_px, training_square

CPU = torch.device("cpu")


class ImageBank:
    """The images of a manifest as uint8 squares [n, 3, side, side], reached by row.

    They are decoded and resized on first use and kept if they fit in ``budget_mb``, on the device that asked for them
    last: a GPU that waits for each batch to be gathered and copied does little else. Otherwise each fetch decodes anew.
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

    def fetch(self, rows: np.ndarray, device: torch.device = CPU) -> Tensor:
        """Training squares of ``rows`` on ``device``, uint8 [len(rows), 3, side, side]."""
        if not self._keeps:
            return self._squares(Manifest(self.manifest.frame.iloc[rows]), device, quiet=True)
        if self._kept is None:
            self._kept = self._squares(self.manifest, device, quiet=False)
        self._kept = self._kept.to(device)
        return self._kept[torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(device)]

    def batches(self, steps: Sequence[np.ndarray], device: torch.device = CPU) -> Iterator[Tensor]:
        """:meth:`fetch` for each of ``steps``; images that are decoded anew are so while the batch before is in use."""
        if self._keeps:
            yield from (self.fetch(rows, device) for rows in steps)
            return
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.fetch, rows, device) for rows in steps[:1]]
            for following in range(1, len(steps) + 1):
                squares = waiting.pop().result()
                waiting += [pool.submit(self.fetch, rows, device) for rows in steps[following : following + 1]]
                yield squares

    @property
    def kept_mb(self) -> float:
        """Decoded images in memory."""
        return 0.0 if self._kept is None else self._kept.numel() / 1e6

    def forget(self) -> None:
        """Let the decoded images go; the next fetch decodes them anew."""
        self._kept = None

    def _squares(self, manifest: Manifest, device: torch.device, *, quiet: bool) -> Tensor:
        side = training_side_px(self.preprocessing)
        squares = torch.empty((len(manifest), 3, side, side), dtype=torch.uint8, device=device)
        found = resized(self._store, manifest, partial(training_square, preprocessing=self.preprocessing), device)
        if not quiet:
            found = track(found, what="decode", unit="images", total=len(manifest))
        for row, square in enumerate(found):
            squares[row] = square
        return squares


def resized(
    store: ImageStore, manifest: Manifest, resize: Callable[[Tensor], Tensor], device: torch.device
) -> Iterator[Tensor]:
    """``resize`` of each decoded image, uint8 [3, H, W], in manifest order.

    CUDA resizes in a fraction of what decoding takes; elsewhere the threads that decode do it.
    """
    if device.type == "cuda":
        return (resize(image.to(device)) for image in store.each(manifest, as_tensor))
    return store.each(manifest, lambda image: resize(as_tensor(image)))


def as_tensor(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → uint8 tensor [3, H, W]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: decoded images are read-only
