"""What a picture looks like in 64 bits: few differ between two that are nearly the same.

pHash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", section 3.2.1): which of the
8 × 8 lowest frequencies of a picture's discrete cosine transform lie above their median. Those few are taken from the
picture by two matrix products. The usual way, to scale it to 32 × 32 and transform all of that, takes ten times as long
and finds the same bits for most photos, and others of two, seldom of four, where amplitudes lie close to the median.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

FREQUENCIES = 8
"""In either direction."""

LONGEST_PX = 512
"""A longer side is brought down to it by area first: the lowest frequencies show nothing of what is lost."""

SCALE = 2**22
"""Of the cosines, which are whole numbers as the pixels are. In a picture of any size no sum reaches 2⁵³, up to which
float64 is exact: every machine finds the same bits, in whatever order it adds."""

BLANK = 4
"""Grey levels, over the root of the number of pixels. Noise of one level leaves amplitudes of half of one."""


ONE_COLOUR = "8000000000000000"
"""The hash of a picture that shows nothing: the mean, and no wave. A white page has it, and a black frame."""


def phash(grey: Image.Image) -> str:
    """Of a picture of mode ``L``, as 16 hex digits: the lowest frequencies first, row by row.

    A picture without an amplitude beyond what noise of a level or two leaves (:data:`BLANK`) has the hash of
    :data:`ONE_COLOUR`: else its bits would be drawn by lot.
    """
    if max(grey.size) > LONGEST_PX:
        width, height = (min(side, LONGEST_PX) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BOX)
    luma = np.asarray(grey).astype(np.float64)
    amplitudes = (_cosines(grey.height) @ luma @ _cosines(grey.width).T).ravel()
    waves = amplitudes[1:]
    if np.abs(waves).max() < BLANK * SCALE**2 / np.sqrt(luma.size):
        waves[:] = 0
    return np.packbits(amplitudes > np.sort(amplitudes)[amplitudes.size // 2 - 1]).tobytes().hex()


@lru_cache(LONGEST_PX)
def _cosines(side: int) -> np.ndarray:
    """The first rows of the cosine transform (DCT-II) of ``side`` values as a mean, float64 [8, side] of integers.

    Every row but the first adds up to nothing, so that one colour has none but the lowest frequency: rounding leaves a
    little else, and below 4 values the frequency of twice their number is the lowest again.
    """
    frequency, place = np.ogrid[:FREQUENCIES, :side]
    cosines = np.rint(SCALE / side * np.cos(np.pi * frequency * (2 * place + 1) / (2 * side)))
    cosines[1:, side // 2] -= cosines[1:].sum(axis=1)
    cosines.setflags(write=False)
    return cosines
