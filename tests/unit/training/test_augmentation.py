"""Random views of training images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import normalise, plain_view
from pipeline.scale.processes import Rows
from pipeline.training.augmentation import random_view, resolved, strong_view

PHOTO = Preprocessing(size_px=24, resize_px=32)
DIGIT = Preprocessing(size_px=24, resize_px=24, fit="stretch")


def squares(side: int, count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def view(preprocessing: Preprocessing, augment: str, seed: int = 0, count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return random_view(squares(preprocessing.resize_px, count), preprocessing, augment, generator)


@pytest.mark.parametrize("augment", ["auto", "none", "affine", "photo"])
@pytest.mark.parametrize("preprocessing", [PHOTO, DIGIT])
def test_views_have_the_backbones_size_and_follow_the_generator(preprocessing: Preprocessing, augment: str) -> None:
    """Equal generators give equal views; another seed gives others, unless nothing is random."""
    first, again, other = (view(preprocessing, augment, seed) for seed in (0, 0, 1))
    assert (6, 3, 24, 24) == tuple(first.shape)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (augment == "none")


@pytest.mark.parametrize("make", [random_view, strong_view])
@pytest.mark.parametrize(("preprocessing", "augment"), [(PHOTO, "photo"), (PHOTO, "none"), (DIGIT, "affine")])
def test_rows_of_a_batch_look_as_they_do_in_the_whole(
    make: Callable[..., torch.Tensor], preprocessing: Preprocessing, augment: str
) -> None:
    """A process with some of a batch augments it as one that has all, and draws on from the same place."""
    whole = torch.Generator().manual_seed(3)
    pixels = squares(preprocessing.resize_px)
    expected = make(pixels, preprocessing, augment, whole)
    for rows in (Rows(0, 2, 6), Rows(2, 6, 6)):
        part = torch.Generator().manual_seed(3)
        found = make(rows.of(pixels), preprocessing, augment, part, rows)
        assert torch.equal(rows.of(expected), found)
        assert torch.equal(whole.get_state(), part.get_state())


def test_none_is_the_plain_view() -> None:
    """No augmentation: the centre, as in evaluation."""
    assert torch.equal(plain_view(squares(32), PHOTO), view(PHOTO, "none"))


def test_auto_never_mirrors_digits() -> None:
    """Where preprocessing keeps the borders, mirror images are other symbols; photos may be mirrored."""
    assert ("affine", "photo") == (resolved("auto", DIGIT), resolved("auto", PHOTO))
    bars = torch.zeros(64, 3, 24, 24, dtype=torch.uint8)
    bars[..., :6] = 255
    seen = random_view(bars, DIGIT, "affine", torch.Generator().manual_seed(0))
    assert bool((seen[..., :12].mean(dim=(1, 2, 3)) > seen[..., 12:].mean(dim=(1, 2, 3))).all())


def test_values_stay_within_what_pixels_can_be() -> None:
    """Brightness and contrast are clipped to [0, 255] before normalising."""
    extremes = normalise(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1), PHOTO)
    seen = view(PHOTO, "photo", count=64)
    assert bool((seen >= extremes[0] - 1e-5).all())
    assert bool((seen <= extremes[1] + 1e-5).all())
