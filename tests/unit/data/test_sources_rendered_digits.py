"""The embedded source."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.context import Context
from pipeline.data.sources import _digit_fonts, rendered_digits
from pipeline.data.sources._record import Record


def read(seed: int = 0, **params: object) -> list[Record]:
    return list(rendered_digits.records(rendered_digits.Params(**params), Context(Path(), seed=seed)))


def pixels(record: Record) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record.content)))


def test_only_fonts_with_plain_digits_are_used():
    """Symbol, size and last-resort fonts are left out, and so are the math fonts' old-style figures."""
    fonts = {font.stem for font in _digit_fonts.plain_digit_fonts()}

    assert {
        "DejaVuSans",
        "DejaVuSerif-BoldItalic",
        "DejaVuSansMono",
        "STIXGeneral",
        "cmr10",
        "cmss10",
        "cmtt10",
    } <= fonts
    assert not fonts & {"cmsy10", "cmex10", "cmmi10", "LastResortHE-Regular", "DejaVuSansDisplay", "STIXSizOneSymReg"}
    assert not [font for font in fonts if font.startswith(("STIXSiz", "STIXNonUni"))]


def test_images_are_counted_per_class_and_grouped_by_font():
    """As many of each digit as asked for; the group says which font it was."""
    records = read(images_per_class=4)
    fonts = {font.stem for font in _digit_fonts.plain_digit_fonts()}

    assert dict.fromkeys("0123456789", 4) == Counter(record.label for record in records)
    assert {record.group for record in records} <= fonts
    assert 40 == len({record.name for record in records})


def test_equal_seeds_make_equal_bytes_and_more_images_keep_the_first():
    """Each image has a random stream of its own."""
    few, many, other = read(images_per_class=2), read(images_per_class=3), read(seed=1, images_per_class=2)

    assert [record.content for record in few] == [record.content for record in many[:20]]
    assert [record.content for record in few] != [record.content for record in other]


@pytest.mark.parametrize("side_px", [8, 16, 28])
def test_white_strokes_on_black_of_the_asked_size(side_px):
    """Grey images of that side; strokes in each, and more ground than ink in all."""
    images = np.stack([pixels(record) for record in read(images_per_class=3, image_size_px=side_px)])

    assert ((30, side_px, side_px), np.uint8) == (images.shape, images.dtype)
    assert images.max(axis=(1, 2)).min() > 150
    assert images.min(axis=(1, 2)).max() < 30
    assert 50 < images.mean() < 110


def test_digits_resemble_handwritten_ones():
    """The mean image of a digit correlates with that of the handwritten digit, for all ten."""
    from sklearn.datasets import load_digits

    handwritten = load_digits()
    records = read(images_per_class=40)
    for digit in range(10):
        drawn = np.mean([pixels(record) for record in records if record.label == str(digit)], axis=0)
        written = handwritten.images[handwritten.target == digit].mean(axis=0)
        assert 0.6 < np.corrcoef(drawn.ravel(), written.ravel())[0, 1], digit
