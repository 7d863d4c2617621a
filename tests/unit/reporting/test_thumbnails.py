"""Thumbnails: small images unchanged, large ones shrunk, unreadable ones left out."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pipeline.data.manifest import Manifest
from pipeline.reporting import thumbnails


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_images_keep_every_pixel():
    """An 8-pixel image is embedded as it is, as PNG, and marked as tiny."""
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    thumbnail = thumbnails.of_pixels(pixels)

    assert thumbnail.is_tiny
    assert thumbnail.uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(pixels, np.asarray(opened(thumbnail.uri)))


def test_photos_are_shrunk_in_proportion():
    """A photo becomes a JPEG whose longer side is the thumbnail's."""
    thumbnail = thumbnails.of_pixels(np.zeros((300, 600, 3), dtype=np.uint8))

    assert not thumbnail.is_tiny
    assert (thumbnails.SIDE_PX, thumbnails.SIDE_PX // 2) == opened(thumbnail.uri).size


def test_unknown_and_broken_images_have_none(workspace):
    """An id that the manifest does not know, and a file that is no image any more, are left out; others stay."""
    manifest = Manifest.load(workspace.root / "data/manifest/target.parquet")
    broken, whole = manifest.frame["id"][1], manifest.frame["id"][2]
    (workspace.root / manifest.frame["path"][1]).write_text("not an image")

    assert [whole] == list(thumbnails.of_images(workspace.root, manifest, ["unknown", broken, whole]))
