"""How a picture was taken, in two figures that tell dark and blurred ones from the rest.

Both are taken from the luma of the picture brought down to 256 px on its shorter side (smaller ones stay as they are):
about what a network is shown, so that a photo that is soft only at its full size is not called blurred.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE_PX = 256
"""Shorter side at which both are taken."""

LIT_PERCENTILE = 99
"""A picture with any light in it has a hundredth of bright pixels, be it a white digit on black."""


class Exposure(NamedTuple):
    """``brightness``: the 99th percentile of luma, 0 black to 1 white.

    ``sharpness``: the variance of the Laplacian (4 neighbours, edges repeated) of luma, on the scale that brings that
    percentile to 255, so that a dark picture is not blurred for being dark. None where all is black. Pech-Pacheco et
    al. 2000, "Diatom autofocusing in brightfield microscopy", eq. 5.
    """

    brightness: float
    sharpness: float | None


def exposure(grey: Image.Image) -> Exposure:
    """Of a picture of mode ``L``.

    On 6,297 images of five real sets (ants and bees, blood cells, scenes from above, office things, CIFAR-10) the least
    brightness was 0.18, and 4 had a sharpness below 10. Darkened tenfold, all were below 0.1; of the photos of at least
    224 px blurred by 2 % of their side, 93 % had a sharpness below 10.
    """
    luma = np.asarray(_brought_down(grey), dtype=np.float32)
    brightest = float(np.percentile(luma, LIT_PERCENTILE))
    if brightest == 0:
        return Exposure(brightness=0.0, sharpness=None)
    variance = float(_laplacian(luma).var(dtype=np.float64)) * (255 / brightest) ** 2
    return Exposure(brightness=round(brightest / 255, 4), sharpness=round(variance, 2))


def _brought_down(grey: Image.Image) -> Image.Image:
    """By whole factors first, which is fast, then to the pixel."""
    factor = min(grey.size) // SIDE_PX
    if factor > 1:
        grey = grey.reduce(factor)
    scale = SIDE_PX / min(grey.size)
    if scale >= 1:
        return grey
    return grey.resize((round(grey.width * scale), round(grey.height * scale)), Image.Resampling.BILINEAR)


def _laplacian(luma: np.ndarray) -> np.ndarray:
    around = np.pad(luma, 1, mode="edge")
    return around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * luma
