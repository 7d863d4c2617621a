"""Random views of training images, a whole batch at a time and reproducible from one generator.

Crop, mirror, rotation, scaling and shift are one affine map per image, so that pixels are interpolated once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import normalise, plain_view
from pipeline.scale.processes import Rows
from pipeline.training.options import Augment

MAX_ROTATION = math.radians(12)
SCALE_RANGE = (0.85, 1.15)
MAX_SHIFT = 0.08
"""Share of the image's side."""
CROP_AREA = (0.4, 1.0)
"""Share of the square that a photo's crop covers."""
CROP_ASPECT = (3 / 4, 4 / 3)
CUT_OUT = 0.35
"""Side of the square that a strong view loses, as a share of the image's."""
COLOUR = 0.2
"""Brightness, contrast and saturation change by up to this share."""


def resolved(augment: Augment, preprocessing: Preprocessing) -> Augment:
    """What ``auto`` means for these images."""
    if augment != "auto":
        return augment
    return "affine" if preprocessing.fit == "stretch" else "photo"


def random_view(
    squares: Tensor,
    preprocessing: Preprocessing,
    augment: Augment,
    generator: torch.Generator,
    rows: Rows | None = None,
) -> Tensor:
    """Training squares, uint8 [B, 3, side, side] → normalised float32 [B, 3, size_px, size_px].

    All draws come from ``generator`` (on the CPU), so that they do not depend on the device. Where the squares are some
    ``rows`` of a batch, they are augmented as they are in the whole batch, and the generator ends where it does then.
    """
    kind = resolved(augment, preprocessing)
    if kind == "none":
        return plain_view(squares, preprocessing)
    draw = _Draw(rows or Rows.all(len(squares)), generator)
    maps = _affine_maps(draw) if kind == "affine" else _crop_maps(draw)
    pixels = _warp(squares, maps, preprocessing.size_px)
    if kind == "photo":
        pixels = _recolour(pixels, draw)
    return normalise(pixels, preprocessing)


def strong_view(
    squares: Tensor,
    preprocessing: Preprocessing,
    augment: Augment,
    generator: torch.Generator,
    rows: Rows | None = None,
) -> Tensor:
    """As :func:`random_view`, then doubled colour changes and a grey square cut out (DeVries and Taylor, 2017)."""
    draw = _Draw(rows or Rows.all(len(squares)), generator)
    view = random_view(squares, preprocessing, augment, generator, rows)
    return _cut_out(_rescaled(view, draw), draw)


def _rescaled(view: Tensor, draw: _Draw) -> Tensor:
    """Contrast and brightness of normalised images, changed by up to twice ``COLOUR``."""
    contrast = draw.between(1 - 2 * COLOUR, 1 + 2 * COLOUR).to(view.device).view(-1, 1, 1, 1)
    shift = draw.between(-2 * COLOUR, 2 * COLOUR).to(view.device).view(-1, 1, 1, 1)
    return view * contrast + shift


def _cut_out(view: Tensor, draw: _Draw) -> Tensor:
    """Zero (the mean colour) in a square of ``CUT_OUT`` of the side, anywhere."""
    side = view.shape[-1]
    ticks = (torch.arange(side) + 0.5) / side
    rows, columns = (
        ((ticks[None] - draw.between(0, 1)[:, None]).abs() < CUT_OUT / 2).to(view.device) for _ in range(2)
    )
    return view * ~(rows[:, None, :, None] & columns[:, None, None, :])


class _Draw:
    """Uniform draws, one per image of the batch, of which some rows are ours."""

    def __init__(self, rows: Rows, generator: torch.Generator) -> None:
        self._rows, self._generator = rows, generator

    def between(self, low: float, high: float) -> Tensor:
        return self._unit() * (high - low) + low

    def log_between(self, low: float, high: float) -> Tensor:
        return self.between(math.log(low), math.log(high)).exp()

    def sign(self) -> Tensor:
        return (self._unit() < 0.5).float() * 2 - 1

    def _unit(self) -> Tensor:
        return self._rows.of(torch.rand(self._rows.images, generator=self._generator))


def _affine_maps(draw: _Draw) -> Tensor:
    """[B, 2, 3] maps from output to input coordinates in [-1, 1], as ``affine_grid`` takes them."""
    angle = draw.between(-MAX_ROTATION, MAX_ROTATION)
    scale = draw.log_between(*SCALE_RANGE)
    shift_x, shift_y = (2 * draw.between(-MAX_SHIFT, MAX_SHIFT) for _ in "xy")
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return torch.stack([torch.stack([cos, -sin, shift_x], dim=1), torch.stack([sin, cos, shift_y], dim=1)], dim=1)


def _crop_maps(draw: _Draw) -> Tensor:
    """A random crop, mirrored half of the time; shape as above."""
    area, aspect = draw.between(*CROP_AREA), draw.log_between(*CROP_ASPECT)
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    centre_x, centre_y = ((1 - side) * draw.between(-1, 1) for side in (width, height))
    zero = torch.zeros_like(width)
    return torch.stack(
        [torch.stack([width * draw.sign(), zero, centre_x], dim=1), torch.stack([zero, height, centre_y], dim=1)], dim=1
    )


def _warp(squares: Tensor, maps: Tensor, size_px: int) -> Tensor:
    """Sample at ``maps`` into float32 [B, 3, size_px, size_px] in [0, 255]; what lies outside repeats the border."""
    shape = [len(squares), 3, size_px, size_px]
    grid = functional.affine_grid(maps.to(squares.device), shape, align_corners=False)
    return functional.grid_sample(squares.float(), grid, padding_mode="border", align_corners=False)


def _recolour(pixels: Tensor, draw: _Draw) -> Tensor:
    """Brightness, contrast about the image's mean grey, saturation about each pixel's grey."""
    brightness, contrast, saturation = (
        draw.between(1 - COLOUR, 1 + COLOUR).to(pixels.device).view(-1, 1, 1, 1) for _ in range(3)
    )
    pixels = pixels * brightness
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast + mean
    grey = pixels.mean(dim=1, keepdim=True)
    return ((pixels - grey) * saturation + grey).clamp(0, 255)
