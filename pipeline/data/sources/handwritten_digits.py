"""The embedded target: 1,797 handwritten digits of 8 × 8 pixels that come with scikit-learn, with few labels.

Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998
(https://doi.org/10.24432/C50P49), the test part, as packaged in scikit-learn.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from pipeline.core import digests, seeding
from pipeline.core.params import PluginParams
from pipeline.data.sources._record import Record, Records

if TYPE_CHECKING:
    from pipeline.core.context import Context

SUMMARY = "The 1,797 handwritten digits (8 × 8 px) that come with scikit-learn, with few labels; needs no download."


class Params(PluginParams):
    """How much of the set may be known."""

    name: str = "handwritten_digits"
    labels_per_class: int | None = Field(
        5, ge=0, description="Labelled images per class outside test; null = all, 0 = none."
    )
    test_share: float = Field(0.5, gt=0, lt=1, description="Share of each class kept as the test part.")


def location(params: Params) -> str | None:
    return None


class _Digit(NamedTuple):
    content: bytes
    id: str
    """Digest of the pixels, not of the PNG: which is test must not depend on a compressor's version."""
    label: str


def records(params: Params, context: Context) -> Records:
    """Test images with their labels; the others with ``labels_per_class`` labels per class, the rest without.

    Which images are test is a matter of their content alone; which of the others are labelled, of their content and
    the seed. A larger ``labels_per_class`` therefore keeps every label that a smaller one gave.
    """
    digits = list(_digits())
    return Records(_records(digits, params, context.seed), total=len(digits))


def _records(digits: list[_Digit], params: Params, seed: int) -> Iterator[Record]:
    test, labelled = _chosen(digits, params, seed)
    for number, digit in enumerate(digits):
        in_test = digit.id in test
        yield Record(
            content=digit.content,
            name=f"{number:04d}.png",
            label=digit.label if in_test or digit.id in labelled else None,
            split="test" if in_test else "train",
        )


def _chosen(digits: list[_Digit], params: Params, seed: int) -> tuple[set[str], set[str]]:
    """Ids of the test images, and of the labelled ones among the others."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for digit in digits:
        by_class[digit.label].append(digit.id)
    test, labelled = set(), set()
    for ids in by_class.values():
        ranked = sorted(ids, key=lambda id_: seeding.unit(0, "handwritten_digits", "test", id_))
        count = round(params.test_share * len(ids))
        test |= set(ranked[:count])
        rest = sorted(ranked[count:], key=lambda id_: seeding.unit(seed, "handwritten_digits", "label", id_))
        labelled |= set(rest[: params.labels_per_class])
    return test, labelled


def _digits() -> Iterator[_Digit]:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    bundle = load_digits()
    for pixels, label in zip(bundle.images, bundle.target, strict=True):
        buffer = io.BytesIO()
        grey = np.round(pixels * (255 / 16)).astype(np.uint8)  # 17 levels of ink, 0…16
        Image.fromarray(grey).save(buffer, "PNG")
        yield _Digit(content=buffer.getvalue(), id=digests.of_bytes(grey.tobytes()), label=str(label))
