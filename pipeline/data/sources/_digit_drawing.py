"""From a font's glyph to something like a small scan of handwriting.

The way is that of a pen and a scanner: habits of the hand, slant, rotation, uneven width, a wobbling hand (elastic
deformation; Simard, Steinkraus and Platt 2003), one thickness of stroke; then the digit is scaled to its box, averaged
down to a few pixels, blurred, brightened and given noise. White strokes on black.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

GLYPH_PX = 48
"""Side of the square in which a glyph is deformed and thickened before it is averaged down."""

WOBBLE_POINTS = 5
"""Random displacements per side; between them the displacement is smooth."""

SMOOTH = ndimage.zoom(np.eye(WOBBLE_POINTS), (GLYPH_PX / WOBBLE_POINTS, 1), order=3)
"""Cubic interpolation from WOBBLE_POINTS to GLYPH_PX as a matrix: (GLYPH_PX, WOBBLE_POINTS)."""


def render(glyph: np.ndarray, digit: str, size_px: int, noise: float, random: np.random.Generator) -> np.ndarray:
    """One varied image of ``glyph`` (uint8, any size, cropped to its ink): uint8 of shape (size_px, size_px)."""
    ink = _habit(_on_canvas(glyph), digit, random)
    ink = _stroke(_deformed(ink, random), random)
    small = _averaged(_fitted(ink, random), size_px)
    return _scanned(small, noise, random)


def _on_canvas(glyph: np.ndarray) -> np.ndarray:
    """The glyph in the middle of a square, 70 % of its height: float in [0, 1] of shape (GLYPH_PX, GLYPH_PX)."""
    height = int(0.7 * GLYPH_PX)
    width = max(2, min(GLYPH_PX - 4, round(glyph.shape[1] * height / glyph.shape[0])))
    canvas = np.zeros((GLYPH_PX, GLYPH_PX))
    top, left = (GLYPH_PX - height) // 2, (GLYPH_PX - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(Image.fromarray(glyph).resize((width, height))) / 255
    return canvas


def _habit(ink: np.ndarray, digit: str, random: np.random.Generator) -> np.ndarray:
    """What hands do and fonts do not, half of the time: a bar through the seven, an open four, a one without a foot."""
    habit = {"7": _crossed, "4": _opened, "1": _footless}.get(digit)
    return habit(ink.copy(), random) if habit and random.random() < 0.5 else ink


def _crossed(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    row = int(GLYPH_PX * random.uniform(0.46, 0.56))
    left, right = (int(GLYPH_PX * edge) for edge in (random.uniform(0.28, 0.38), random.uniform(0.62, 0.72)))
    ink[row : row + int(random.integers(3, 6)), left:right] = 1
    return ink


def _opened(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Take the upper part of the upright away: from the top of the arm it no longer closes the triangle."""
    upright = int(ink.sum(axis=0).argmax())
    stroke = max(2, int((ink[-GLYPH_PX // 4] > 0.5).sum()))
    ink[: int(GLYPH_PX * random.uniform(0.36, 0.5)), upright - stroke // 2 - 1 :] = 0
    return ink


def _footless(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Keep of the lowest rows only what lies under the upright."""
    foot = int(GLYPH_PX * 0.7)
    ink[foot:] = ink[foot:] * (ink[GLYPH_PX // 2] > 0.5)
    return ink


def _deformed(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Slant, rotation, uneven width, and a smooth random displacement of every point."""
    angle, slant = random.normal(0, 0.10), random.normal(0.08, 0.22)
    taper = random.normal(0, 0.15)  # wider at the top or at the bottom
    rows, columns = np.indices(ink.shape) - GLYPH_PX / 2
    across = columns * (1 + taper * rows / GLYPH_PX) + slant * rows
    source_rows = np.cos(angle) * rows - np.sin(angle) * across
    source_columns = np.sin(angle) * rows + np.cos(angle) * across
    wobble = SMOOTH @ (random.normal(0, 1, (2, WOBBLE_POINTS, WOBBLE_POINTS)) * random.uniform(0.5, 2.4)) @ SMOOTH.T
    places = np.stack([source_rows, source_columns]) + GLYPH_PX / 2 + wobble
    return ndimage.map_coordinates(ink, places, order=1)


def _stroke(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Make every stroke about equally thick, whatever the font's weight: a pen does not know bold."""
    inside = ndimage.distance_transform_edt(ink > 0.5)
    present = 2 * float(np.percentile(inside[inside > 0], 90)) if inside.any() else 0.0
    wanted = random.uniform(4.0, 9.0)  # px of GLYPH_PX
    outside = ndimage.distance_transform_edt(ink <= 0.5)
    grow = np.clip((wanted - present) / 2, -0.3 * present, 4)
    edge = np.where(ink > 0.5, inside - 0.5, 0.5 - outside) + grow  # signed distance to the new outline, px
    return np.clip(edge + 0.5, 0, 1)


def _fitted(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The ink's box made to fill the square from top to bottom, with a varied width, then shifted a little."""
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.2), np.flatnonzero(ink.max(axis=0) > 0.2)
    if not len(rows):  # a hair of a stroke that the wobble has torn: leave it as it is
        return ink
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    fill = GLYPH_PX * random.uniform(0.96, 1.06)
    breadth = np.clip(fill * width / height * random.uniform(0.6, 1.1), 0.2 * GLYPH_PX, 0.85 * GLYPH_PX)
    scale = np.array([height / fill, width / breadth])
    centre = np.array([rows[0] + rows[-1], columns[0] + columns[-1]]) / 2
    shift = random.normal(0, 0.015 * GLYPH_PX, 2)
    offset = centre - scale * ((GLYPH_PX - 1) / 2 + shift)
    return ndimage.affine_transform(ink, scale, offset, order=1)


def _averaged(ink: np.ndarray, size_px: int) -> np.ndarray:
    """Box-averaged to ``size_px``, as the handwritten digits were from 32 × 32 bitmaps."""
    return np.asarray(Image.fromarray(ink.astype(np.float32)).resize((size_px, size_px), Image.Resampling.BOX))


def _scanned(pixels: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """Blur, contrast, and noise on the ink (the ground of a thresholded scan is clean)."""
    blurred = ndimage.gaussian_filter(pixels, random.uniform(0, 0.45) * len(pixels) / 8)
    bright = np.clip(blurred * random.uniform(0.95, 1.4), 0, 1)
    noisy = bright + random.normal(0, noise, bright.shape) * (bright > 0.02)
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
