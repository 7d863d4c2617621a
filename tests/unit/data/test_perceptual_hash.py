"""Pictures that look alike have hashes that are nearly alike, on every machine the same ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import imagehash
import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pipeline.data import perceptual_hash
from pipeline.data.perceptual_hash import LONGEST_PX, SCALE, _cosines, phash

SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))


def scene(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    """Of large parts, which low frequencies show."""
    return pictures.scene(width, height, seed, rectangles=60, sides=(20, 120))


def blurred(seed: int = 0) -> Image.Image:
    """Hardly any of the higher frequencies that a hash is made of."""
    return scene(seed=seed).filter(ImageFilter.GaussianBlur(24))


def again(picture: Image.Image, scale: float, quality: int) -> Image.Image:
    """As a JPEG of another size."""
    width, height = (round(side * scale) for side in picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("L")


def differing(first: str, second: str) -> int:
    """Bits of 64."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def by_imagehash(picture: Image.Image) -> str:
    return str(imagehash.phash(picture))


def assert_as_imagehash(some: list[Image.Image]) -> None:
    """Nearly always to within two bits, on average to within one, and never far off."""
    apart = np.array([differing(phash(picture), by_imagehash(picture)) for picture in some])
    assert np.mean(apart <= 2) > 0.95
    assert apart.mean() < 1
    assert apart.max() <= 8


def test_the_bits_are_those_of_imagehash_but_for_a_few():
    """It scales the picture down first, which changes what lies close to the median."""
    assert_as_imagehash([scene(seed=seed) for seed in range(100)])


@pytest.mark.realdata
@pytest.mark.parametrize("archive", ["ants_bees", "malaria"])
def test_of_real_photos_too(archive):
    """Photos, and cells under a microscope on black."""
    assert_as_imagehash(pictures.real_photos(archive, 100))


@pytest.mark.parametrize(("scale", "quality"), [(1, 60), (0.5, 80), (1.7, 90)])
@pytest.mark.parametrize("make", [scene, blurred], ids=lambda make: make.__name__)
def test_a_picture_saved_again_in_another_size_is_recognised(scale, quality, make):
    """Two bits are what ingest allows a near duplicate; another picture is 30 away."""
    originals = [make(seed=seed) for seed in range(60)]
    hashes = [phash(picture) for picture in originals]
    saved_again = [phash(again(picture, scale, quality)) for picture in originals]

    assert np.mean([differing(*pair) <= 2 for pair in zip(hashes, saved_again, strict=True)]) > 0.95
    assert min(differing(*pair) for pair in pairwise(hashes)) > 10


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1), st.sampled_from(["any", "two greys", "mirrored", "blank"]))
def test_the_bits_are_those_of_whole_numbers(size, seed, kind):
    """No sum is ever rounded: another order of adding, as on another machine, cannot find another bit."""
    luma = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    if kind == "two greys":
        luma = (luma // 128) * np.uint8(255)
    if kind == "blank":
        luma //= 64
    if kind == "mirrored":
        luma = np.concatenate([luma, luma[:, ::-1]], axis=1)
    down, across = (_cosines(side).astype(int).astype(object) for side in luma.shape)
    amplitudes = (down @ luma.astype(int).astype(object) @ across.T).ravel()
    if max(map(abs, amplitudes[1:])) < 4 * SCALE**2 / np.sqrt(luma.size):
        amplitudes[1:] = 0
    twice_the_median = sum(sorted(amplitudes)[31:33])
    bits = "".join(str(int(2 * amplitude > twice_the_median)) for amplitude in amplitudes)

    assert f"{int(bits, 2):016x}" == phash(Image.fromarray(luma))


def test_no_sum_is_too_large_to_be_exact():
    """255 everywhere, with the signs that add up, in a picture of any size."""
    largest = max(np.abs(_cosines(side)).sum(axis=1).max() for side in range(1, LONGEST_PX + 1))
    assert 255 * largest**2 <= 2**53


@pytest.mark.parametrize("noise", [0.3, 1])
def test_what_is_nearly_blank_is_recognised_more_often_than_by_imagehash(noise):
    """A lens cap, an empty slide: the noise of a sensor says nothing, and is left out."""
    random = np.random.default_rng(0)
    blank = [Image.fromarray(np.rint(random.normal(120, noise, (200, 224))).astype(np.uint8)) for _ in range(20)]
    saved_again = [again(picture, 0.5, 80) for picture in blank]

    def recognised(of: Callable[[Image.Image], str]) -> float:
        apart = [differing(of(before), of(after)) for before, after in zip(blank, saved_again, strict=True)]
        return float(np.mean(np.array(apart) <= 2))

    assert recognised(phash) > 0.8
    assert recognised(phash) >= recognised(by_imagehash)


@pytest.mark.parametrize("height", [-3, 3])
def test_a_faint_wave_is_not_blank(height):
    """Whether it begins dark or bright."""
    grain = np.random.default_rng(0).normal(128, 0.5, (200, 200))  # else rounding would make waves of its own
    luma = np.rint(grain + height * np.cos(np.pi * (np.arange(200) + 0.5) / 200))
    assert phash(Image.new("L", (200, 200), 128)) != phash(Image.fromarray(luma.astype(np.uint8)))


@given(SIZES, st.integers(1, 255))
def test_one_colour_looks_the_same_in_any_size(size, level):
    """Nothing but its mean: rounding leaves no waves in it."""
    assert phash(Image.new("L", size, level)) == "8000000000000000"


@pytest.mark.parametrize(
    ("size", "within"), [((3000, 40), (512, 40)), ((40, 1500), (40, 512)), ((900, 700), (512, 512))]
)
def test_a_long_side_is_brought_down_first(size, within, monkeypatch):
    """By area, to 512 px: what is computed with is no larger, and the picture looks as it did."""
    sides: list[int] = []
    grain = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    monkeypatch.setattr(perceptual_hash, "_cosines", lambda side: sides.append(side) or _cosines(side))
    large = Image.blend(scene(300, 200).resize(size), Image.fromarray(grain), 0.3)
    width, height = (side // 2 for side in size)
    half = large.resize((width, height), Image.Resampling.BOX)

    assert phash(large) == phash(large.resize(within, Image.Resampling.BOX))
    assert 2 * [*reversed(within)] == sides
    assert differing(phash(large), phash(half)) <= 2
