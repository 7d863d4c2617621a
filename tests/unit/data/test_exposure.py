"""Dark and blurred pictures are told from the rest by two figures."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import real_photos, scene
from PIL import Image, ImageFilter

from pipeline.data.exposure import SIDE_PX, _laplacian_variance, exposure
from pipeline.data.inspection import inspect
from pipeline.stages import validate


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def darker(image: Image.Image, factor: float) -> Image.Image:
    return image.point(lambda value: value * factor)


def test_black_has_neither_light_nor_a_sharpness():
    """Nothing can be said of the focus of what cannot be seen."""
    assert (0.0, None) == exposure(Image.new("L", (30, 20)))


def test_what_is_hardly_lit_is_dark_and_of_no_sharpness():
    """Seven grey levels stretched over the whole scale would be edges everywhere."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 8, (50, 50), dtype=np.uint8))
    assert (7 / 255, None) == pytest.approx(exposure(noise), abs=1e-4)
    assert exposure(darker(scene(), 0.04)).sharpness is not None


def test_one_colour_has_no_edge():
    """A white card is bright, and as blurred as can be."""
    assert (1.0, 0.0) == exposure(Image.new("L", (30, 20), 255))


@pytest.mark.parametrize(("bright", "brightness"), [(3, 0.2), (4, 0.8)])
def test_brightness_is_what_a_hundredth_of_the_pixels_reach(bright, brightness):
    """Of 400 pixels four: three alone may be specks on the lens."""
    pixels = np.full((20, 20), 51, dtype=np.uint8)
    pixels[0, :bright] = 204
    assert brightness == exposure(Image.fromarray(pixels)).brightness


def test_the_laplacian_of_a_single_point_is_known():
    """-4 there, 1 at its four neighbours, 0 at the other 59 of the 64 pixels that have four neighbours: 20 / 64."""
    pixels = np.zeros((10, 10), dtype=np.uint8)
    pixels[5, 5] = 51  # a hundredth of the pixels: as bright as this picture gets
    assert (0.2, round(20 / 64 * 255**2, 2)) == exposure(Image.fromarray(pixels))


@given(st.tuples(st.integers(3, 40), st.integers(3, 40)), st.integers(0, 2**32 - 1))
def test_the_variance_is_that_of_the_laplacian_taken_by_slices(size, seed):
    """To the last digit: the sums are of integers."""
    luma = np.random.default_rng(seed).integers(0, 256, size)
    across, down = (luma[1:-1, 2:] + luma[1:-1, :-2], luma[2:, 1:-1] + luma[:-2, 1:-1])
    laplacian = across + down - 4 * luma[1:-1, 1:-1]
    mean = int(laplacian.sum()) / laplacian.size

    assert int((laplacian**2).sum()) / laplacian.size - mean**2 == _laplacian_variance(luma.astype(np.int16))


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
    small = scene(SIDE_PX + 40, SIDE_PX)
    large = small.resize((small.width * 4, small.height * 4), Image.Resampling.NEAREST)
    assert exposure(small) == exposure(large)
    assert exposure(small).sharpness > 10 * exposure(small.filter(ImageFilter.GaussianBlur(4))).sharpness


def test_what_is_found_does_not_jump_with_the_size():
    """One picture in sizes from below to twice the side that is looked at: sharp stays sharp, blurred stays blurred."""
    whole = scene(900, 800)
    soft = whole.filter(ImageFilter.GaussianBlur(16))
    for kind, shorter in product(("PNG", "JPEG"), (200, 256, 257, 300, 384, 400, 511, 512, 513, 600)):
        size = (shorter * 9 // 8, shorter)
        seen, blurred = (
            inspect(encoded(one.resize(size, Image.Resampling.BOX), kind)).sharpness for one in (whole, soft)
        )
        assert 500 < seen < 3000, shorter
        assert 1 < blurred < 10, shorter


@pytest.mark.realdata
def test_the_limits_part_real_photos_from_dark_and_blurred_ones():
    """validate's own limits, on 100 photos each of insects, scenes from above and office things."""
    limits = validate.Params()
    for archive in ("ants_bees", "rsscn7", "office_caltech10"):
        photos = real_photos(archive, 100)
        dark = [inspect(encoded(darker(photo, 0.1))) for photo in photos]
        soft = [inspect(encoded(photo.filter(ImageFilter.GaussianBlur(0.02 * min(photo.size))))) for photo in photos]
        seen = [inspect(encoded(photo)) for photo in photos]
        assert [] == [one for one in seen if one.brightness < limits.min_brightness]
        assert sum(one.sharpness < limits.min_sharpness for one in seen) <= 1, archive
        assert [] == [one for one in dark if one.brightness >= limits.min_brightness]
        assert sum(one.sharpness < limits.min_sharpness for one in soft) >= 90, archive


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (257, 256), (513, 3000)])
def test_any_size_will_do(size):
    """One pixel and strips, in which none has four neighbours, and sides just above a whole factor."""
    brightness, sharpness = exposure(Image.effect_noise(size, 60))
    assert 0 <= brightness <= 1
    assert (min(size) > 2) == (sharpness is not None)
