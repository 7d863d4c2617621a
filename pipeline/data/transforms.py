"""Preprocessing and its training-time sibling, on torch tensors.

The convention, shared with the ONNX graph (:mod:`pipeline.serving.preprocessing_graph`):

* resize in float32, bilinear with antialiasing, half-pixel centres; no rounding back to uint8;
* ``fit="crop"``: shorter side → ``resize_px``, other side → ``floor(other * resize_px / shorter)`` (torchvision's
  ``int()``), then the central ``size_px`` square at offset ``round((side - size_px) / 2)``, halves to even as Python
  and ONNX round them;
* ``fit="stretch"``: both sides → ``size_px``;
* then ``(x / 255 - mean) / std``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.preprocessing import Preprocessing


def resized_size(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) in pixels after the resize, before the crop."""
    if preprocessing.fit == "stretch":
        return preprocessing.size_px, preprocessing.size_px
    shorter, target = min(height, width), preprocessing.resize_px
    return (
        target if height == shorter else height * target // shorter,
        target if width == shorter else width * target // shorter,
    )


def resize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 [B, 3, H, W] → float32 [B, 3, h, w] in [0, 255], not yet cropped."""
    size = resized_size(images.shape[-2], images.shape[-1], preprocessing)
    pixels = images.to(torch.float32)
    if size == tuple(images.shape[-2:]):
        return pixels
    return functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)


def centre_crop(images: Tensor, size_px: int) -> Tensor:
    """The central square; smaller images are taken to be at least ``size_px`` on both sides."""
    top, left = (round((side - size_px) / 2) for side in images.shape[-2:])
    return images[..., top : top + size_px, left : left + size_px]


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """[B, 3, H, W] in [0, 255], uint8 or float → float32, per channel ``(x / 255 - mean) / std``."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return (pixels.to(torch.float32) / 255 - mean) / std


def preprocess(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Decoded images, uint8 [B, 3, H, W] → what the backbone sees, float32 [B, 3, size_px, size_px]."""
    return normalise(prepared_square(images, preprocessing), preprocessing)


def prepared_square(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Decoded images, uint8 [B, 3, H, W] → float32 [B, 3, size_px, size_px] in [0, 255], not yet normalised."""
    pixels = resize(images, preprocessing)
    return centre_crop(pixels, preprocessing.size_px) if preprocessing.fit == "crop" else pixels


def training_side_px(preprocessing: Preprocessing) -> int:
    """Side of the square that training keeps of each image; larger than ``size_px`` where crops are drawn from it."""
    return preprocessing.resize_px if preprocessing.fit == "crop" else preprocessing.size_px


def training_square(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """One decoded image, uint8 [3, H, W] → the central uint8 square [3, side, side] that augmentation starts from.

    Rounded to whole pixel values so that a data set fits in memory; the error is at most half a grey level.
    """
    pixels = centre_crop(resize(image[None], preprocessing), training_side_px(preprocessing))
    return pixels[0].round().clamp(0, 255).to(torch.uint8)


def plain_view(squares: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Training squares, uint8 [B, 3, side, side] → normalised [B, 3, size_px, size_px] with no augmentation."""
    return normalise(centre_crop(squares, preprocessing.size_px), preprocessing)
