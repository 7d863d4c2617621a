"""From bytes to RGB pixels."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core import digests
from pipeline.core.errors import DataError
from pipeline.data.images import MAX_PIXELS, ImageStore, TooManyPixelsError, as_grey, decode, opened, to_rgb
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


def photo(side_px: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """A soft picture, as a JPEG."""
    coarse = np.random.default_rng(side_px).integers(0, 256, (side_px // 30, side_px // 40, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((side_px * 3 // 4, side_px), Image.Resampling.BICUBIC)
    return encoded(picture.convert(mode), kind, **options)


def grey(content: bytes, side_px: int) -> Image.Image:
    with opened(content) as image:
        return as_grey(image, side_px)


@pytest.mark.parametrize(
    ("side_px", "size"), [(340, (255, 340)), (680, (510, 680)), (688, (258, 344)), (2752, (258, 344))]
)
def test_a_large_jpeg_is_scaled_as_it_is_decoded(side_px, size):
    """By a power of two, while both sides are long enough; it is the picture that decoding and scaling would give."""
    content = photo(side_px)
    scaled = grey(content, 256)
    plain = Image.fromarray(decode(content)).convert("L").resize(size, Image.Resampling.BOX)

    assert ("L", size) == (scaled.mode, scaled.size)
    assert np.abs(np.asarray(scaled, int) - np.asarray(plain, int)).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side_px", [80, 1600])
def test_a_grey_picture_is_upright(orientation, side_px):
    """As the colour one is, whatever the camera's side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = photo(side_px, exif=exif)
    upright = decode(content)
    scaled = grey(content, 256)
    plain = Image.fromarray(upright).convert("L").resize(scaled.size, Image.Resampling.BOX)

    assert (upright.shape[0] > upright.shape[1]) == (scaled.height > scaled.width)
    assert np.abs(np.asarray(scaled, int) - np.asarray(plain, int)).mean() < 1


HELD = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"],
    "GIF": ["1", "L", "P", "RGB", "RGBA"],
    "WEBP": ["L", "RGB", "RGBA"],
}
"""Modes by format."""


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in HELD.items() for mode in modes])
def test_luma_is_that_of_the_colours(kind, mode):
    """To the last digit, with transparency laid on white."""
    coloured = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8), "RGBA")
    picture = coloured.convert("L").convert(mode) if mode == "I;16" else coloured.convert(mode)
    content = encoded(picture, kind, **({"transparency": 3} if kind == "PNG" and mode in ("L", "P") else {}))

    np.testing.assert_array_equal(Image.fromarray(decode(content)).convert("L"), grey(content, 256))


def test_transparency_that_is_told_after_the_pixels_counts():
    """A PNG may name its transparent grey at the end."""
    content = encoded(Image.new("L", (300, 300), 7))
    told = b"tRNS" + (7).to_bytes(2)
    end = content.index(b"IEND") - 4
    late = content[:end] + (2).to_bytes(4) + told + zlib.crc32(told).to_bytes(4) + content[end:]

    assert {255} == set(np.unique(decode(late)))
    assert {255} == set(np.unique(grey(late, 256)))


KINDS = [
    ("L", "JPEG", {}),
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("RGB", "JPEG", {"subsampling": 0}),
    ("RGB", "JPEG", {"restart_marker_blocks": 4}),
    ("RGB", "JPEG", {"keep_rgb": True}),
    ("CMYK", "JPEG", {}),
    ("RGB", "MPO", {}),
]
"""Of JPEGs."""


@pytest.mark.parametrize(("mode", "kind", "options"), KINDS)
def test_a_jpeg_s_own_luma_is_that_of_the_colours(mode, kind, options):
    """It is rounded, and cut off at black and white, at another place."""
    coarse = np.random.default_rng(1).integers(40, 216, (5, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((240, 200), Image.Resampling.BICUBIC).convert(mode)
    content = encoded(picture, kind, **options)
    luma = np.asarray(Image.fromarray(decode(content)).convert("L"), int)

    assert np.abs(np.asarray(grey(content, 256), int) - luma).max() <= 2


def test_colours_that_cannot_be_decoded_are_found_in_grey_too():
    """Chroma two thirds as fine as luma: a decoder that leaves colours out would not notice."""
    content = bytearray(encoded(Image.new("RGB", (96, 96)), "JPEG"))
    header = content.index(b"\xff\xc0")
    for component, factors in enumerate((0x31, 0x21, 0x21)):
        content[header + 11 + 3 * component] = factors

    for look in (decode, lambda content: grey(content, 256)):
        with pytest.raises(OSError, match="broken data stream"):
            look(bytes(content))


@pytest.mark.parametrize(("mode", "kind", "options"), KINDS)
@pytest.mark.parametrize("side_px", [160, 600, 2100])
def test_a_damaged_jpeg_is_refused_alike_in_grey_and_in_colour(side_px, mode, kind, options):
    """Luma alone, or scaled, is not looked at more kindly: cut short or with other bytes, the error is the same."""
    whole, random = photo(side_px, kind, mode, **options), np.random.default_rng(side_px)

    def refused(look: Callable[[bytes], object], content: bytes) -> str | None:
        try:
            look(content)
        except Exception as error:  # noqa: BLE001 - whatever the decoder says
            return f"{type(error).__name__}: {error}".partition(" at 0x")[0]
        return None

    outcomes = []
    for turn in range(40):
        damaged = bytearray(whole)
        if turn % 3 == 0:
            del damaged[random.integers(2, len(whole)) :]
        for place in random.integers(0 if turn % 3 == 1 else 600, len(damaged), turn if turn % 3 else 0):
            damaged[place] = random.integers(256)
        outcomes.append(refused(decode, bytes(damaged)))
        assert outcomes[-1] == refused(lambda content: grey(content, 256), bytes(damaged))
    assert {True, False} == {outcome is None for outcome in outcomes}


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
