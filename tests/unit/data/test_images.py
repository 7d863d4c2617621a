"""From bytes to RGB pixels."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core import digests
from pipeline.core.errors import DataError
from pipeline.data.images import MAX_PIXELS, ImageStore, TooManyPixelsError, decode, to_rgb
from pipeline.data.manifest import Manifest
from pipeline.data.shards import ShardWriter


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_every_mode_becomes_rgb(mode):
    """Whatever the mode, pixels are uint8 of shape (height, width, 3)."""
    pixels = to_rgb(Image.new(mode, (5, 4)))

    assert (np.dtype(np.uint8), (4, 5, 3)) == (pixels.dtype, pixels.shape)


def test_transparency_is_laid_on_white():
    """A fully transparent pixel is white, not the colour that happens to lie underneath."""
    assert [255, 255, 255] == to_rgb(Image.new("RGBA", (1, 1), (10, 20, 30, 0)))[0, 0].tolist()


def test_sixteen_bit_greys_are_scaled_not_cut():
    """Half of 16-bit white is half of 8-bit white."""
    assert 128 == to_rgb(Image.fromarray(np.full((2, 2), 32_768, dtype=np.uint16)))[0, 0, 0]


def test_exif_rotation_is_applied():
    """A photo taken with the camera on its side comes out upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)

    assert (8, 4, 3) == decode(content).shape


def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch):
    """Nothing is decompressed of an image that promises too many pixels."""
    monkeypatch.setattr("pipeline.data.images.MAX_PIXELS", 99)

    with pytest.raises(TooManyPixelsError) as caught:
        decode(encoded(Image.new("L", (10, 10))))

    assert "10 × 10 pixels, more than 99" == str(caught.value)
    assert MAX_PIXELS > 50_000_000


def test_the_store_reads_files_and_shards_alike(tmp_path):
    """One manifest may list a file of its own and a member of a shard; pixels come in manifest order."""
    dark, light = encoded(Image.new("L", (3, 3), 10)), encoded(Image.new("L", (3, 3), 200))
    (tmp_path / "light.png").write_bytes(light)
    with ShardWriter(tmp_path / "data" / "shards", "target") as writer:
        place = writer.add("dark.png", dark)
    rows = [
        {"id": digests.of_bytes(light), "name": "b", "path": "light.png"},
        {
            "id": digests.of_bytes(dark),
            "name": "a",
            "path": f"data/shards/{place.shard}",
            "offset": place.offset,
            "length": place.length,
        },
    ]

    pixels = list(ImageStore(tmp_path, workers=2).pixels(Manifest.of(pd.DataFrame(rows))))

    assert [10, 200] == [int(image[0, 0, 0]) for image in pixels]


@pytest.mark.parametrize(("change", "found"), [("overwritten", "other bytes: it has changed"), ("removed", "no file")])
def test_an_image_that_changed_since_ingest_is_refused(tmp_path, change, found):
    """What is computed from it would be remembered under the digest of the one it replaced."""
    path = tmp_path / "digit.png"
    path.write_bytes(encoded(Image.new("L", (3, 3), 10)))
    manifest = Manifest.of(pd.DataFrame([{"id": digests.of_file(path), "name": "digit.png", "path": "digit.png"}]))
    path.unlink() if change == "removed" else path.write_bytes(encoded(Image.new("L", (3, 3), 200)))

    with pytest.raises(DataError) as caught:
        list(ImageStore(tmp_path, workers=1).pixels(manifest))

    assert f"found {found}" in str(caught.value)
    assert "where:  digit.png" in str(caught.value)
    assert "Run again: ingest will read it anew." in str(caught.value)
