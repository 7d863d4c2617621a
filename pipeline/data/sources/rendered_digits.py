"""The embedded source: labelled digits drawn with matplotlib's fonts, made to look like small scanned handwriting."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.core import seeding
from pipeline.core.params import PluginParams
from pipeline.data.sources._record import Record, Records

if TYPE_CHECKING:
    import numpy as np

    from pipeline.core.context import Context

SUMMARY = "Digits rendered from the fonts that matplotlib ships, varied like handwriting; needs no download."

CLASSES = "0123456789"


class Params(PluginParams):
    """How many images, how large, and how noisy."""

    name: str = "rendered_digits"
    images_per_class: int = Field(300, ge=1)
    image_size_px: int = Field(8, ge=8, le=64, description="Side of the finished image; 8 is like handwritten_digits.")
    noise: float = Field(0.03, ge=0, le=0.5, description="Standard deviation of the pixel noise; white is 1.")


def location(params: Params) -> str | None:
    return None


def records(params: Params, context: Context) -> Records:
    """One image of each digit in turn; its group is its font's name, so that validation is on fonts never trained on.

    Every image has a random stream of its own: a larger ``images_per_class`` adds images and changes none.
    """
    return Records(_records(params, context.seed), total=len(CLASSES) * params.images_per_class)


def _records(params: Params, seed: int) -> Iterator[Record]:
    import numpy as np

    from pipeline.data.sources import _digit_drawing, _digit_fonts

    fonts = _digit_fonts.plain_digit_fonts()
    for number in range(params.images_per_class):
        for digit in CLASSES:
            random = np.random.default_rng(seeding.derive(seed, "rendered_digits", digit, number))
            font = fonts[int(random.integers(len(fonts)))]
            glyph = _digit_fonts.glyph_of(font, digit)
            pixels = _digit_drawing.render(glyph, digit, params.image_size_px, params.noise, random)
            yield Record(
                content=_png(pixels), name=f"{digit}/{number:05d}-{font.stem}.png", label=digit, group=font.stem
            )


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
