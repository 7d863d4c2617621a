"""Proof that the exported file answers as the trained network does, on real images.

At batch 1 every image keeps its own size, so that the compiled resize is tried on the sizes that occur. Larger batches
need images of one size: they are brought to the size of the first, and both sides see the same pixels. The network
answers those once, in batches of its own; the file answers them at every batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.core.batches import batched
from pipeline.core.files import Document
from pipeline.serving.predictor import batches_by_size

if TYPE_CHECKING:
    from pipeline.serving.predictor import Predictor

BATCH_SIZES = (1, 2, 7, 32)
"""One, the smallest real batch, one that divides little, and a usual one."""

EVEN_SIDE_PX = 512
"""Longest side of the images of the larger batches."""

Reference = Callable[[np.ndarray], np.ndarray]
"""The trained network: uint8 [batch, height, width, 3] → probabilities, float32 [batch, classes]."""


Answered = tuple[np.ndarray, np.ndarray]
"""An image, uint8 [height, width, 3], and the network's probabilities for it, float32 [classes]."""

REFERENCE_BATCH = 32


class BatchParity(Document):
    """One batch size."""

    batch_size: int
    images: int
    sizes: int
    """Distinct heights and widths among the images."""
    disagreements: int
    """Images on which the two name different classes."""
    max_probability_delta: float


class ParityReport(Document):
    """``reports/parity.json``."""

    images: int
    """Distinct images compared."""
    split: str
    """``test``, or ``train`` where there is no test image."""
    disagreements: int
    """Over all batch sizes; the same image counts once per batch size."""
    max_probability_delta: float
    """Largest absolute difference of any probability, over all batch sizes."""
    batches: list[BatchParity]


def compare(
    reference: Reference,
    predictor: Predictor,
    images: Iterable[np.ndarray],
    *,
    split: str,
    batch_sizes: Iterable[int] = BATCH_SIZES,
    batched_images: int = 128,
) -> ParityReport:
    """Hold the file's answers against the network's.

    Args:
        reference: the trained network behind torch's preprocessing.
        predictor: the exported file.
        images: uint8 [height, width, 3] of any sizes, at least one; read once.
        split: where the images come from.
        batch_sizes: to try; 1 is always tried, on all images.
        batched_images: this many of the images are used for each batch size above 1.
    """
    even: list[np.ndarray] = []
    batches = [_compare(_answered(reference, _keeping(images, even, batched_images), 1), predictor, 1)]
    expected = list(_answered(reference, even, REFERENCE_BATCH))
    batches += [_compare(expected, predictor, size) for size in batch_sizes if size > 1]
    return ParityReport(
        images=batches[0].images,
        split=split,
        disagreements=sum(batch.disagreements for batch in batches),
        max_probability_delta=max(batch.max_probability_delta for batch in batches),
        batches=batches,
    )


def _answered(reference: Reference, images: Iterable[np.ndarray], batch_size: int) -> Iterator[Answered]:
    """Each image with the network's answer; images of other sizes may overtake one another."""
    for _, batch in batches_by_size(images, batch_size):
        yield from zip(batch, reference(batch), strict=True)


def _compare(expected: Iterable[Answered], predictor: Predictor, batch_size: int) -> BatchParity:
    """The file's answers, ``batch_size`` images at a time, against the network's."""
    compared, sizes, disagreements, delta = 0, set(), 0, 0.0
    for part in batched(expected, batch_size):
        truth = np.stack([answer for _, answer in part])
        answered = predictor.run(np.stack([image for image, _ in part])).probabilities
        compared += len(part)
        sizes |= {image.shape for image, _ in part}
        disagreements += int((truth.argmax(1) != answered.argmax(1)).sum())
        delta = max(delta, float(np.abs(truth - answered).max()))
    return BatchParity(
        batch_size=batch_size,
        images=compared,
        sizes=len(sizes),
        disagreements=disagreements,
        max_probability_delta=delta,
    )


def _keeping(images: Iterable[np.ndarray], even: list[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Pass ``images`` on, and keep the first ``count`` in ``even`` at the size of the first."""
    for image in images:
        if len(even) < count:
            height, width = even[0].shape[:2] if even else _small(*image.shape[:2])
            even.append(_resized(image, height, width))
        yield image


def _small(height: int, width: int) -> tuple[int, int]:
    """The size itself, or the same shape with ``EVEN_SIDE_PX`` for its longer side: 128 photos must fit in memory."""
    factor = min(1.0, EVEN_SIDE_PX / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
