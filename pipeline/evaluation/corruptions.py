"""Common corruptions: what cameras, weather and file formats do to images, at three severities.

After Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(ICLR 2019, https://arxiv.org/abs/1903.12261): nine of their corruptions, from 224 px on at the strengths of their
severities 1, 3 and 5. Below, :func:`_strength` makes some of them weaker. That scaling is ours and not that of their
32-pixel version (CIFAR-10-C), which is milder at the top: figures are not to be compared with published ones.

Equal image, corruption and severity give an equal result: the severities of an image start from the same random state.
They then differ in strength alone, but for Poisson noise, whose draws depend on its strength.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.seeding import derive

SEVERITIES = (1, 2, 3)

REFERENCE_PX = 224
"""The image size that the strengths below were set for."""

Pixels = NDArray[np.float32]
"""[height, width, 3] in [0, 1]."""


class View(NamedTuple):
    """An image to be corrupted, and what the corruption may depend on beside its severity."""

    pixels: Pixels
    seed: int

    @property
    def side_px(self) -> int:
        return min(self.pixels.shape[:2])

    @property
    def random(self) -> np.random.Generator:
        """The same draws each time it is asked for."""
        return np.random.default_rng(self.seed)

    @property
    def strength(self) -> float:
        return _strength(self.side_px)


def _strength(side_px: int) -> float:
    """1 from 224 px on, 0.5 up to 56 px: how much weaker a corruption is for small images.

    A small image has fewer pixels to say the same with.
    """
    return float(np.clip(np.sqrt(side_px / REFERENCE_PX), 0.5, 1))


def corrupt(image: NDArray[np.uint8], name: str, severity: int, image_id: str) -> NDArray[np.uint8]:
    """``image`` [height, width, 3] after corruption ``name`` at ``severity``; only ``image_id`` decides the draws."""
    view = View(image.astype(np.float32) / np.float32(255), derive(0, "corruption", name, image_id))
    harmed = CORRUPTIONS[name](view, severity - 1)
    return (np.clip(harmed, 0, 1) * 255).round().astype(np.uint8)


def within(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """``image`` with its shorter side brought down to ``side_px``; smaller ones as they are.

    Corruptions are set in pixels of what the network sees: noise on a photo of 4000 px would be averaged away by the
    resize that follows, and blur would vanish.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= side_px:
        return image
    size = (max(1, width * side_px // shorter), max(1, height * side_px // shorter))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


# -- noise -------------------------------------------------------------------------------------------------------------


def gaussian_noise(view: View, level: int) -> Pixels:
    """Normal noise in every channel: a sensor in the dark."""
    deviation = (0.08, 0.18, 0.38)[level] * view.strength
    return view.pixels + deviation * view.random.standard_normal(view.pixels.shape, dtype=np.float32)


def shot_noise(view: View, level: int) -> Pixels:
    """Poisson noise, as of counting few photons."""
    photons = (60, 12, 3)[level] / view.strength**2  # its relative deviation is 1/√photons
    return (view.random.poisson(view.pixels * photons) / photons).astype(np.float32)


# -- blur --------------------------------------------------------------------------------------------------------------


def gaussian_blur(view: View, level: int) -> Pixels:
    """Out of focus: a Gaussian kernel of 1, 3 or 6 px at 224 px, and 0.4, 0.7 or 1 px in the smallest images."""
    deviation_px = max((1.0, 3.0, 6.0)[level] * view.side_px / REFERENCE_PX, (0.4, 0.7, 1.0)[level])
    reach = max(1, round(3 * deviation_px))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation_px) ** 2)
    offsets = range(-reach, reach + 1)
    rows = _shifted_sum(view.pixels, [(offset, 0) for offset in offsets], kernel)
    return _shifted_sum(rows, [(0, offset) for offset in offsets], kernel)


def motion_blur(view: View, level: int) -> Pixels:
    """A moved camera: the mean along a line of 3, 7 or 12 % of the side, of 2, 3 or 4 px at least, in a direction drawn
    for the image."""
    length_px = max((0.03, 0.07, 0.12)[level] * view.side_px, (2.0, 3.0, 4.0)[level])
    angle = view.random.uniform(0, np.pi)
    count = 2 * round(length_px) + 1
    along = np.linspace(-length_px / 2, length_px / 2, count)
    offsets = [(round(np.sin(angle) * step), round(np.cos(angle) * step)) for step in along]
    return _shifted_sum(view.pixels, offsets, np.ones(count))


def _shifted_sum(pixels: Pixels, offsets: list[tuple[int, int]], weights: NDArray) -> Pixels:
    """Weighted mean of copies moved by (rows, columns); the border is repeated outwards."""
    reach = max(max(abs(row), abs(column)) for row, column in offsets)
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = pixels.shape[:2]
    total = np.zeros_like(pixels)
    for (row, column), weight in zip(offsets, weights / weights.sum(), strict=True):
        moved = padded[reach + row : reach + row + height, reach + column : reach + column + width]
        total += np.float32(weight) * moved
    return total


# -- weather and light -------------------------------------------------------------------------------------------------


def fog(view: View, level: int) -> Pixels:
    """A cloud of fractal noise is added, and the whole is darkened back to the old maximum."""
    thickness, decay = ((1.5, 2.0), (2.5, 1.7), (3.0, 1.4))[level]
    thickness *= view.strength
    brightest = float(view.pixels.max())
    cloud = _plasma(view.pixels.shape[:2], decay, view.random)[:, :, None]
    darkened = np.float32(brightest / (brightest + thickness) if brightest else 1)
    return (view.pixels + np.float32(thickness) * cloud) * darkened


def _plasma(shape: tuple[int, ...], decay: float, random: np.random.Generator) -> Pixels:
    """Fractal noise in [0, 1] of ``shape``: octaves of random grids, each twice as fine and 1/decay as strong."""
    height, width = shape
    total: Pixels = np.zeros(shape, dtype=np.float32)
    cells, weight = 2, 1.0
    while cells <= max(height, width):
        grid = Image.fromarray(random.random((cells, cells), dtype=np.float32))
        total += np.float32(weight) * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
        cells, weight = 2 * cells, weight / decay
    low, high = float(total.min()), float(total.max())
    return (total - np.float32(low)) / np.float32(high - low) if high > low else total


def brightness(view: View, level: int) -> Pixels:
    """Too much light: the value of HSV is raised, hue and saturation stay."""
    added = (0.1, 0.3, 0.5)[level]
    value = view.pixels.max(axis=2, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.where(value > 0, view.pixels * brighter / np.maximum(value, 1e-6), brighter).astype(np.float32)


def contrast(view: View, level: int) -> Pixels:
    """Little light: every channel is drawn towards its mean."""
    kept = (0.4, 0.2, 0.05)[level]
    mean = view.pixels.mean(axis=(0, 1), keepdims=True)
    return mean + kept * (view.pixels - mean)


# -- files -------------------------------------------------------------------------------------------------------------


def pixelate(view: View, level: int) -> Pixels:
    """Enlarged from fewer pixels."""
    share = 1 - (1 - (0.6, 0.4, 0.25)[level]) * view.strength
    height, width = view.pixels.shape[:2]
    image = _as_image(view.pixels)
    small = image.resize((max(1, round(share * width)), max(1, round(share * height))), Image.Resampling.BOX)
    return _as_pixels(small.resize((width, height), Image.Resampling.NEAREST))


def jpeg(view: View, level: int) -> Pixels:
    """Saved as JPEG of quality 25, 15 or 7."""
    quality = round((25, 15, 7)[level] / view.strength)
    buffer = io.BytesIO()
    _as_image(view.pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as saved:
        return _as_pixels(saved.convert("RGB"))


def _as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def _as_pixels(image: Image.Image) -> Pixels:
    return np.asarray(image, dtype=np.float32) / np.float32(255)


CORRUPTIONS: dict[str, Callable[[View, int], Pixels]] = {
    corruption.__name__: corruption
    for corruption in (
        gaussian_noise,
        shot_noise,
        gaussian_blur,
        motion_blur,
        fog,
        brightness,
        contrast,
        pixelate,
        jpeg,
    )
}
"""Each from a view and a level (0, 1 or 2) to pixels that may lie outside [0, 1]."""
