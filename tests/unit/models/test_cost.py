"""Multiply-adds as the literature counts them."""

from __future__ import annotations

import pytest

from pipeline.models.cost import multiply_adds


@pytest.mark.parametrize(("name", "billions"), [("resnet18", 1.81), ("mobilenet_v2", 0.30), ("vit_b_16", 17.56)])
def test_agrees_with_the_published_counts(name: str, billions: float) -> None:
    """torchvision's tables, 224 px, to their last digit; the head they include is next to nothing."""
    assert pytest.approx(billions, abs=0.02) == multiply_adds(name, 224) / 1e9


def test_grows_with_the_area_of_the_image() -> None:
    """A convolution's work is per pixel: twice the side, four times the work."""
    assert pytest.approx(4, rel=0.01) == multiply_adds("resnet18", 128) / multiply_adds("resnet18", 64)
