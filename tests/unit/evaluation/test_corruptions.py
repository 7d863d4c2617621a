"""Corruptions: nine of them, each at three severities, equal for equal images."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, within


def photo(side_px: int, seed: int = 0) -> np.ndarray:
    """Soft blobs with an edge: something to blur, and colours to change."""
    rows, columns = np.mgrid[0:side_px, 0:side_px] / side_px
    phases = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    waves = [np.sin(9 * rows + first) * np.cos(11 * columns + second) for first, second in phases]
    image = 128 + 70 * np.stack(waves, axis=2)
    image[side_px // 3 : side_px // 2, side_px // 4 :] = (220, 180, 40)
    return image.round().astype(np.uint8)


def error(image, name, severity, image_id):
    return np.abs(corrupt(image, name, severity, image_id).astype(float) - image).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side_px", [24, 96])
def test_severity_is_monotone_on_average(name, side_px):
    """The more severe, the farther from the image; the least severe one already changes it."""
    errors = [
        np.mean([error(photo(side_px, seed), name, severity, f"{seed}") for seed in range(4)])
        for severity in SEVERITIES
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 1, 3), (17, 40, 3)])
def test_any_image_keeps_its_form(name, shape):
    """Size, type and range, also of a single pixel and of a black image."""
    for image in (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)):
        for severity in SEVERITIES:
            found = corrupt(image, name, severity, "x")
            assert (shape, np.uint8) == (found.shape, found.dtype)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_equal_ids_give_equal_results(name):
    first, again = (corrupt(photo(32), name, 2, "one") for _ in range(2))
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "motion_blur", "fog"])
def test_other_images_have_other_draws(name):
    assert corrupt(photo(96), name, 3, "one").tobytes() != corrupt(photo(96), name, 3, "two").tobytes()


def test_noise_has_the_published_deviation():
    """0.38 of the range at the highest severity for 224 px, half of it for small images."""
    for side_px, expected in ((224, 0.08), (32, 0.04)):
        grey = np.full((side_px, side_px, 3), 128, np.uint8)
        found = corrupt(grey, "gaussian_noise", 1, "x").astype(float) / 255
        assert pytest.approx(expected, rel=0.05) == found.std()


def test_brightness_keeps_hue_and_contrast_keeps_the_mean():
    image = np.full((9, 9, 3), (40, 80, 20), np.uint8)
    red, green, blue = corrupt(image, "brightness", 2, "x")[0, 0].astype(float)
    assert pytest.approx((0.5, 0.25), abs=0.01) == (red / green, blue / green)
    assert pytest.approx(photo(64).mean(), abs=1) == corrupt(photo(64), "contrast", 3, "x").mean()


def test_large_images_are_first_brought_to_the_size_in_use():
    """So that a photo of many pixels is harmed as much as a small one; small images stay."""
    assert (64, 128, 3) == within(np.zeros((300, 600, 3), np.uint8), 64).shape
    small = photo(24)
    assert small is within(small, 64)
