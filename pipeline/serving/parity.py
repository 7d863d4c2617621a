"""Proof that the exported file answers as the trained network does, on real images.

At batch 1 every image keeps its own size, so that the compiled resize is tried on the sizes that occur. Larger batches
need images of one size: they are brought to the size of the first, and both sides see the same pixels. The network
answers each set of pixels once, or not at all where features stand for its backbone; the file answers them at every
batch size.

Heads that compare (trees, nearest neighbours) jump: where a feature lies on a threshold up to the last bit of a float,
network and file may fall to different sides. ``step`` is the largest change of a probability that one such comparison
makes; a different class counts as a tie, not as a disagreement, where the network's two best are within three of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from pipeline.core.ahead import mapped_ahead
from pipeline.core.batches import batched
from pipeline.serving.answering import EVEN_SIDE_PX
from pipeline.serving.parity_report import CONTINUOUS, FLIPS, BatchParity, ParityReport

if TYPE_CHECKING:
    from pipeline.serving.predictor import Predictor

BATCH_SIZES = (1, 2, 7, 32)
"""One, the smallest real batch, one that divides little, and a usual one."""

Reference = Callable[[Sequence[np.ndarray]], np.ndarray]
"""The trained network: images, uint8 [height, width, 3] of any sizes → probabilities, float32 [images, classes]."""

Answered = tuple[np.ndarray, np.ndarray]
"""An image, uint8 [height, width, 3], and the network's probabilities for it, float32 [classes]."""

REFERENCE_BATCH = 8
"""Images that the network answers together: a third faster than one by one, and a few are in the cores' cache."""

REFERENCE_PIXELS = REFERENCE_BATCH * EVEN_SIDE_PX**2
"""Larger photos are fewer: those of a thread must fit in memory."""


class Compared(NamedTuple):
    """What :func:`compare` found."""

    report: ParityReport
    answers: np.ndarray
    """The file's to each image alone, float32 [images, classes]."""


def compare(
    reference: Reference,
    predictor: Predictor,
    images: Iterable[np.ndarray],
    *,
    split: str,
    batch_sizes: Iterable[int] = BATCH_SIZES,
    batched_images: int = 64,
    step: float = 0.0,
    at_once: Callable[[int], int] = lambda _: 2,
    known: np.ndarray | None = None,
) -> Compared:
    """Hold the file's answers against the network's.

    Args:
        reference: the trained network behind torch's preprocessing.
        predictor: the exported file, on one thread; it is asked on several.
        images: uint8 [height, width, 3] of any sizes; read once.
        split: where the images come from.
        batch_sizes: to try; 1 is always tried, on all images.
        batched_images: this many of the images are used for each batch size above 1.
        step: of the network's head; see :class:`ParityReport`.
        at_once: on how many threads to ask for so many images at a time.
        known: the network's answers to ``images``, each alone, float32 [images, classes]; None asks it.
    """
    even, answers = _Even(batched_images), [np.zeros((0, len(predictor.classes)), dtype=np.float32)]
    together = REFERENCE_BATCH if known is None else 1

    def by_both(numbered: list[tuple[int, np.ndarray]]) -> tuple[list[Answered], np.ndarray]:
        numbers, group = zip(*numbered, strict=True)
        expected = zip(group, reference(group) if known is None else known[list(numbers)], strict=True)
        return list(expected), np.stack([predictor.alone(image) for image in group])

    def noted(parts: Iterable[tuple[list[Answered], np.ndarray]]) -> Iterator[tuple[list[Answered], np.ndarray]]:
        for answered, found in parts:
            even.keep(answered)
            answers.append(found)
            yield answered, found

    # Threads end with what they were started for, whichever side fails.
    groups = _groups(enumerate(images), together)
    with contextlib.closing(mapped_ahead(by_both, groups, at_once(together), per_thread=2)) as alone:
        batches = [_compare(noted(alone), 1, step)]
    expected = even.answered(reference, at_once(REFERENCE_BATCH))
    for size in batch_sizes:
        if size > 1:
            with contextlib.closing(_in_batches(expected, predictor, size, at_once(size))) as parts:
                batches.append(_compare(parts, size, step))
    report = ParityReport(
        images=batches[0].images,
        split=split,
        disagreements=sum(batch.disagreements for batch in batches),
        ties=sum(batch.ties for batch in batches),
        jumps=sum(batch.jumps for batch in batches),
        max_probability_delta=max(batch.max_probability_delta for batch in batches),
        step=step,
        against="network" if known is None else "features",
        batches=batches,
    )
    return Compared(report, np.concatenate(answers))


def _groups(images: Iterable[tuple[int, np.ndarray]], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """At most ``size`` images, and not much more than :data:`REFERENCE_PIXELS`, with their numbers."""
    group: list[tuple[int, np.ndarray]] = []
    for number, image in images:
        group.append((number, image))
        pixels = sum(one.shape[0] * one.shape[1] for _, one in group)
        if len(group) == size or pixels >= REFERENCE_PIXELS:
            yield group
            group = []
    if group:
        yield group


def _in_batches(
    expected: list[Answered], predictor: Predictor, size: int, at_once: int
) -> Generator[tuple[list[Answered], np.ndarray], None, None]:
    """``size`` images at a time, and the file's answers to them, float32 [images, classes]."""

    def by_file(part: list[Answered]) -> tuple[list[Answered], np.ndarray]:
        return part, predictor.run(np.stack([image for image, _ in part])).probabilities

    return mapped_ahead(by_file, batched(expected, size), at_once, per_thread=2)


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

    def keep(self, answered: Iterable[Answered]) -> None:
        """Keep what is needed of it."""
        for image, answer in answered:
            if len(self._images) == self._count:
                return
            height, width = self._images[0].shape[:2] if self._images else _small(*image.shape[:2])
            self._images.append(_resized(image, height, width))
            if self._images[-1] is image:
                self._answers[len(self._images) - 1] = answer

    def answered(self, reference: Reference, at_once: int) -> list[Answered]:
        """What was kept, in its order; what the network has not seen, it answers now."""
        unseen = [number for number in range(len(self._images)) if number not in self._answers]
        groups = batched((self._images[number] for number in unseen), REFERENCE_BATCH)
        with contextlib.closing(mapped_ahead(reference, groups, at_once, per_thread=2)) as answers:
            self._answers |= zip(unseen, chain.from_iterable(answers), strict=True)
        return [(image, self._answers[number]) for number, image in enumerate(self._images)]


def _small(height: int, width: int) -> tuple[int, int]:
    """The size itself, or the same shape with ``EVEN_SIDE_PX`` for its longer side: all kept must fit in memory."""
    factor = min(1.0, EVEN_SIDE_PX / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
