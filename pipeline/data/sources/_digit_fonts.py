"""Which of the fonts that matplotlib ships have plain digits, and their glyphs."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pipeline.core.errors import GraftlineError

DIGITS = "0123456789"

REFERENCES = ("DejaVuSans.ttf", "STIXGeneral.ttf")
"""What a digit looks like: without serifs, and with."""

MIN_LIKENESS = 0.5
"""Least correlation with a reference font's digit for a glyph to count as a plain digit."""


@cache
def plain_digit_fonts() -> tuple[Path, ...]:
    """The fonts matplotlib ships whose ten digits look like digits, sorted by name.

    Several do not: the STIX size and variant fonts draw nothing there, ``cmsy10`` and ``cmex10`` draw other symbols,
    the last-resort font draws a box. Each digit, set upright, must resemble the same digit of a sans or a serif
    reference font, and more than any other digit.
    """
    references = np.stack([_templates(_font_folder() / name, slant=0.0) for name in REFERENCES])
    return tuple(font for font in sorted(_font_folder().glob("*.ttf")) if _has_digits(font, references))


def _font_folder() -> Path:
    """Found without importing matplotlib, which takes a second."""
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        raise GraftlineError("matplotlib is not installed; its fonts are the source of rendered digits")
    return Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"


def _has_digits(font: Path, references: np.ndarray) -> bool:
    """Whether at some slant all ten glyphs of ``font`` match; an italic digit is as plain as an upright one."""
    if any(glyph_of(font, digit).size == 0 for digit in DIGITS):
        return False
    return any(_match(_templates(font, slant), references) for slant in (0.0, 0.1, 0.2, 0.3))


def _match(templates: np.ndarray, references: np.ndarray) -> bool:
    """``templates`` (10, pixels) against ``references`` (fonts, 10, pixels), both of unit length."""
    likeness = np.einsum("dp,fep->fde", templates, references).max(axis=0)
    own = likeness.diagonal()
    return bool((likeness.argmax(axis=1) == np.arange(len(DIGITS))).all() and own.min() >= MIN_LIKENESS)


def _templates(font: Path, slant: float) -> np.ndarray:
    """The digits sheared back by ``slant``, cropped, blurred, 14 × 20 px, of zero mean and unit length: (10, 280)."""
    glyphs = [_sheared_back(glyph_of(font, digit), slant).resize((14, 20)) for digit in DIGITS]
    flat = np.stack([np.asarray(glyph.filter(ImageFilter.GaussianBlur(1))).ravel() for glyph in glyphs]).astype(float)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _sheared_back(glyph: np.ndarray, slant: float) -> Image.Image:
    height, width = glyph.shape
    size = (width + int(slant * height), height)
    sheared = Image.fromarray(glyph).transform(
        size, Image.Transform.AFFINE, (1, -slant, 0, 0, 1, 0), Image.Resampling.BILINEAR
    )
    return sheared.crop(_ink_box(sheared))


def _ink_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest box that holds all ink; None where there is none."""
    return image.point(lambda level: 255 * (level > 64)).getbbox()


@cache
def glyph_of(font: Path, digit: str) -> np.ndarray:
    """The glyph cropped to its ink, uint8 (height, width), about 64 px high; empty where the font draws nothing."""
    face = ImageFont.truetype(str(font), 88)
    canvas = Image.new("L", (176, 176))
    ImageDraw.Draw(canvas).text((44, 30), digit, fill=255, font=face)
    box = _ink_box(canvas)
    return np.asarray(canvas.crop(box)) if box else np.empty((0, 0), dtype=np.uint8)
