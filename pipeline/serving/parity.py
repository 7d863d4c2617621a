"""Proof that the exported file answers as the trained network does, on real images.

At batch 1 every image keeps its own size, so that the compiled resize is tried on the sizes that occur. Larger batches
need images of one size: they are brought to the size of the first, and both sides see the same pixels. The network
answers each set of pixels once; the file answers them at every batch size.

Heads that compare (trees, nearest neighbours) jump: where a feature lies on a threshold up to the last bit of a float,
network and file may fall to different sides. ``step`` is the largest change of a probability that one such comparison
makes; a different class counts as a tie, not as a disagreement, where the network's two best are within three of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.core.ahead import mapped_ahead
from pipeline.core.batches import batched
from pipeline.core.files import Document
from pipeline.serving.int8_trial import Quantisation

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

AT_ONCE = 2
"""Images at work, each on a thread that asks the network and then the file. Photos are large: no more of them."""

FLIPS = 3
"""So many comparisons on one image may fall to the other side, between torch and the file or between two machines."""

CONTINUOUS = 1e-4
"""A probability that differs by more has met a comparison that fell to the other side."""


class BatchParity(Document):
    """One batch size."""

    batch_size: int
    images: int
    sizes: int
    """Distinct heights and widths among the images."""
    disagreements: int
    """Images on which the two name different classes, ties left out."""
    ties: int = 0
    """Images on which they name different classes that the network holds for all but equal; 0 where ``step`` is 0."""
    jumps: int = 0
    """Images with a probability that differs by more than ``CONTINUOUS``."""
    max_probability_delta: float


class ParityReport(Document):
    """``reports/parity.json``: the float32 file against the network."""

    images: int
    """Distinct images compared."""
    split: str
    """``test``, or ``train`` where there is no test image."""
    disagreements: int
    """Over all batch sizes; the same image counts once per batch size."""
    ties: int = 0
    """Likewise."""
    jumps: int = 0
    """Images, over all batch sizes, on which a comparison of the head fell to the other side."""
    max_probability_delta: float
    """Largest absolute difference of any probability, over all batch sizes."""
    step: float = 0.0
    """Largest change of a probability that one flipped comparison can cause; 0 for continuous heads."""
    batches: list[BatchParity]
    quantisation: Quantisation | None = None
    """Where an int8 file was tried: what it cost, and whether it ships in the place of the float32 file."""


def compare(
    reference: Reference,
    predictor: Predictor,
    images: Iterable[np.ndarray],
    *,
    split: str,
    batch_sizes: Iterable[int] = BATCH_SIZES,
    batched_images: int = 128,
    step: float = 0.0,
) -> ParityReport:
    """Hold the file's answers against the network's.

    Args:
        reference: the trained network behind torch's preprocessing.
        predictor: the exported file.
        images: uint8 [height, width, 3] of any sizes, at least one; read once.
        split: where the images come from.
        batch_sizes: to try; 1 is always tried, on all images.
        batched_images: this many of the images are used for each batch size above 1.
        step: of the network's head; see :class:`ParityReport`.
    """
    even = _Even(batched_images)

    def by_both(image: np.ndarray) -> tuple[Answered, np.ndarray]:
        batch = np.stack([image])
        return (image, reference(batch)[0]), predictor.run(batch).probabilities

    ahead = mapped_ahead(by_both, images, AT_ONCE, per_thread=1)
    with contextlib.closing(ahead) as alone:  # its threads end here, whichever side fails
        batches = [_compare((([even.keep(answered)], found) for answered, found in alone), 1, step)]
    expected = even.answered(reference)
    batches += [_compare(_in_batches(expected, predictor, size), size, step) for size in batch_sizes if size > 1]
    return ParityReport(
        images=batches[0].images,
        split=split,
        disagreements=sum(batch.disagreements for batch in batches),
        ties=sum(batch.ties for batch in batches),
        jumps=sum(batch.jumps for batch in batches),
        max_probability_delta=max(batch.max_probability_delta for batch in batches),
        step=step,
        batches=batches,
    )


def _in_batches(
    expected: list[Answered], predictor: Predictor, size: int
) -> Iterator[tuple[list[Answered], np.ndarray]]:
    """``size`` images at a time, and the file's answers to them, float32 [images, classes]."""
    for part in batched(expected, size):
        yield part, predictor.run(np.stack([image for image, _ in part])).probabilities


def _compare(parts: Iterable[tuple[list[Answered], np.ndarray]], batch_size: int, step: float) -> BatchParity:
    """The file's answers to each part, float32 [images, classes], against the network's."""
    compared, sizes, disagreements, ties, jumps, delta = 0, set(), 0, 0, 0, 0.0
    for part, answered in parts:
        truth = np.stack([answer for _, answer in part])
        compared += len(part)
        sizes |= {image.shape for image, _ in part}
        apart = np.abs(truth - answered).max(axis=1)
        absurd = ~np.isfinite(apart)  # NaN is equal to nothing, and argmax and max pass over it in silence
        apart[absurd] = 1.0
        differ, tied = (truth.argmax(1) != answered.argmax(1)) | absurd, _tied(truth, step) & ~absurd
        disagreements += int((differ & ~tied).sum())
        ties += int((differ & tied).sum())
        jumps += int((apart > CONTINUOUS).sum())
        delta = max(delta, float(apart.max()))
    return BatchParity(
        batch_size=batch_size,
        images=compared,
        sizes=len(sizes),
        disagreements=disagreements,
        ties=ties,
        jumps=jumps,
        max_probability_delta=delta,
    )


def _tied(probabilities: np.ndarray, step: float) -> np.ndarray:
    """Whether the two largest of each row of [images, classes] are within :data:`FLIPS` steps; never for step 0."""
    if step == 0 or probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), dtype=bool)
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return first - second <= FLIPS * step


class _Even:
    """The first images of a stream, brought to the size of the first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._images: list[np.ndarray] = []
        self._answers: dict[int, np.ndarray] = {}
        """Of those whose pixels the network has seen, by number."""

    def keep(self, answered: Answered) -> Answered:
        """Pass ``answered`` on, and keep what is needed of it."""
        image, answer = answered
        if len(self._images) < self._count:
            height, width = self._images[0].shape[:2] if self._images else _small(*image.shape[:2])
            self._images.append(_resized(image, height, width))
            if self._images[-1] is image:
                self._answers[len(self._images) - 1] = answer
        return answered

    def answered(self, reference: Reference) -> list[Answered]:
        """What was kept, in its order; what the network has not seen, it answers now."""
        unseen = [number for number in range(len(self._images)) if number not in self._answers]
        for numbers in batched(unseen, REFERENCE_BATCH):
            answers = reference(np.stack([self._images[number] for number in numbers]))
            self._answers |= zip(numbers, answers, strict=True)
        return [(image, self._answers[number]) for number, image in enumerate(self._images)]


def _small(height: int, width: int) -> tuple[int, int]:
    """The size itself, or the same shape with ``EVEN_SIDE_PX`` for its longer side: 128 photos must fit in memory."""
    factor = min(1.0, EVEN_SIDE_PX / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
