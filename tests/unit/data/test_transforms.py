"""Preprocessing on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import centre_crop, normalise, plain_view, preprocess, resized_size, training_square

CROP = Preprocessing(size_px=24, resize_px=32)
STRETCH = Preprocessing(size_px=24, resize_px=24, fit="stretch", mean=(0.5,) * 3, std=(0.5,) * 3)


def an_image(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8))


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(100, 150, (32, 48)), (333, 100, (106, 32)), (9, 9, (32, 32))]
)
def test_shorter_side_becomes_resize_px(height: int, width: int, expected: tuple[int, int]) -> None:
    """``fit="crop"``: the other side is scaled alike and rounded down."""
    assert expected == resized_size(height, width, CROP)


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_resized_image_always_holds_the_crop(height: int, width: int) -> None:
    """Whatever the shape, no side is smaller than the crop that follows."""
    assert min(resized_size(height, width, CROP)) == CROP.resize_px


@pytest.mark.parametrize(("height", "width"), [(50, 40), (31, 77), (300, 300), (32, 32)])
def test_equals_torchvision_on_floats(height: int, width: int) -> None:
    """torchvision's Resize, CenterCrop and Normalize give the same, where they do not round to uint8 in between."""
    from torchvision.transforms import v2

    image = an_image(height, width)
    theirs = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(24), v2.Normalize(CROP.mean, CROP.std)])(
        image.float() / 255
    )
    assert torch.allclose(theirs, preprocess(image, CROP), atol=1e-5)


def test_stretch_keeps_the_borders() -> None:
    """``fit="stretch"`` scales both sides to size_px and cuts nothing off."""
    image = torch.zeros(1, 3, 10, 40, dtype=torch.uint8)
    image[..., 0] = image[..., -1] = 255
    seen = preprocess(image, STRETCH)
    assert tuple(seen.shape) == (1, 3, 24, 24)
    assert seen[..., 0].min() > 0
    assert seen[..., -1].min() > 0


def test_normalise_is_the_formula() -> None:
    """Per channel (x / 255 - mean) / std."""
    pixels = torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)
    expected = [(0.2 - mean) / std for mean, std in zip(CROP.mean, CROP.std, strict=True)]
    assert pytest.approx(expected, abs=1e-6) == normalise(pixels, CROP).flatten().tolist()


def test_centre_crop_rounds_halves_to_even() -> None:
    """An odd margin is divided as Python and ONNX round: 5 → offset 2, 7 → offset 4."""
    rows = torch.arange(31).view(1, 1, 31, 1).expand(1, 1, 31, 29)
    assert centre_crop(rows, 24)[0, 0, 0, 0] == 4
    assert centre_crop(rows[..., :29, :], 24)[0, 0, 0, 0] == 2


@pytest.mark.parametrize("preprocessing", [CROP, STRETCH])
def test_training_squares_show_the_same_image(preprocessing: Preprocessing) -> None:
    """The plain view of a training square differs from preprocessing by its rounding to whole grey levels alone."""
    image = an_image(61, 47)
    view = plain_view(training_square(image[0], preprocessing)[None], preprocessing)
    assert (view - preprocess(image, preprocessing)).abs().max() <= 0.51 / 255 / min(preprocessing.std)
