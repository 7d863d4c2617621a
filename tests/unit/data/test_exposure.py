"""Dark and blurred pictures are told from the rest by two figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pipeline.data.exposure import SIDE_PX, exposure


def scene(width: int = 320, height: int = 300, seed: int = 0) -> Image.Image:
    """Overlapping rectangles of any grey: edges at every scale, as photos have."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width), 90, dtype=np.uint8)
    for _ in range(150):
        left, top = rng.integers(0, width), rng.integers(0, height)
        pixels[top : top + rng.integers(2, 60), left : left + rng.integers(2, 60)] = rng.integers(20, 255)
    return Image.fromarray(pixels)


def darker(image: Image.Image, factor: float) -> Image.Image:
    return image.point(lambda value: value * factor)


def test_black_has_neither_light_nor_a_sharpness():
    """Nothing can be said of the focus of what cannot be seen."""
    assert (0.0, None) == exposure(Image.new("L", (30, 20)))


def test_one_colour_has_no_edge():
    """A white card is bright, and as blurred as can be."""
    assert (1.0, 0.0) == exposure(Image.new("L", (30, 20), 255))


def test_the_laplacian_of_a_single_point_is_known():
    """-4 there, 1 at its four neighbours, 0 at the other 59 of the 64 pixels that have four neighbours: 20 / 64."""
    pixels = np.zeros((10, 10), dtype=np.uint8)
    pixels[5, 5] = 51  # a hundredth of the pixels: as bright as this picture gets
    assert (0.2, round(20 / 64 * 255**2, 2)) == exposure(Image.fromarray(pixels))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), factor=st.floats(0.3, 1.0))
def test_darkening_lowers_the_brightness_alone(seed, factor):
    """The same picture with less light has as much less brightness, and its sharpness but for rounding to 8 bits."""
    bright, dark = exposure(scene(seed=seed)), exposure(darker(scene(seed=seed), factor))
    assert bright.brightness * factor == pytest.approx(dark.brightness, abs=0.01)
    assert bright.sharpness == pytest.approx(dark.sharpness, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), radius=st.floats(1, 3))
def test_blurring_lowers_the_sharpness(seed, radius):
    """And by more, the wider the blur (up to where rounding to 8 bits is all the texture that is left)."""
    sharp = scene(seed=seed)
    soft, softer = (sharp.filter(ImageFilter.GaussianBlur(wide)) for wide in (radius, 2 * radius))
    assert exposure(sharp).sharpness > exposure(soft).sharpness > exposure(softer).sharpness


def test_a_picture_is_judged_at_the_scale_at_which_a_network_sees_it():
    """A picture in which every pixel became four by four is as sharp; one blurred by as much at that scale is not."""
    small = scene(SIDE_PX, SIDE_PX - 40)
    large = small.resize((small.width * 4, small.height * 4), Image.Resampling.NEAREST)
    assert exposure(small) == exposure(large)
    assert exposure(small).sharpness > 10 * exposure(small.filter(ImageFilter.GaussianBlur(4))).sharpness


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (257, 256), (513, 3000)])
def test_any_size_will_do(size):
    """One pixel and strips, in which none has four neighbours, and sides just above a whole factor."""
    brightness, sharpness = exposure(Image.effect_noise(size, 60))
    assert 0 <= brightness <= 1
    assert (min(size) > 2) == (sharpness is not None)
