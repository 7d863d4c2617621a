"""Valid images, damaged at random: each is either decoded, always to the same pixels, or refused in words."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from tally import Tally

from pipeline.data.images import decode
from pipeline.data.inspection import inspect

LIMIT_S = 10.0
"""Per image: far above what any of these takes, far below what anyone would call a hang."""


def _picture(mode: str = "RGB") -> Image.Image:
    """Shapes and grain, 61 × 47 px."""
    random = np.random.default_rng(0)
    pixels = np.zeros((47, 61, 3), np.uint8)
    pixels[10:30, 5:40] = (200, 60, 20)
    pixels[20:44, 25:55, 2] = 255
    noisy = np.clip(pixels + random.integers(0, 30, pixels.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def _rotated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _grey16() -> Image.Image:
    return Image.fromarray(np.arange(47 * 61, dtype=np.uint16).reshape(47, 61) * 20)


ZOO: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: _saved(_picture(), "JPEG", quality=90),
    "jpeg-progressive": lambda: _saved(_picture(), "JPEG", progressive=True),
    "jpeg-cmyk": lambda: _saved(_picture("CMYK"), "JPEG"),
    "jpeg-rotated": lambda: _saved(_picture(), "JPEG", exif=_rotated_exif()),
    "png": lambda: _saved(_picture(), "PNG"),
    "png-palette": lambda: _saved(_picture("P"), "PNG", transparency=0),
    "png-grey-alpha": lambda: _saved(_picture("LA"), "PNG"),
    "png-16-bit": lambda: _saved(_grey16(), "PNG"),
    "gif-animated": lambda: _saved(_picture("P"), "GIF", save_all=True, append_images=[_picture("P").rotate(90)]),
    "webp": lambda: _saved(_picture("RGBA"), "WEBP"),
    "bmp": lambda: _saved(_picture(), "BMP"),
    "tiff-lzw": lambda: _saved(_picture(), "TIFF", compression="tiff_lzw"),
    "ppm": lambda: _saved(_picture(), "PPM"),
}


def _bit_flips(content: bytearray, random: np.random.Generator) -> bytes:
    for place in random.integers(0, len(content), int(random.integers(1, 12))):
        content[place] ^= 1 << int(random.integers(8))
    return bytes(content)


def _truncated(content: bytearray, random: np.random.Generator) -> bytes:
    return bytes(content[: int(random.integers(0, len(content)))])


def _spliced(content: bytearray, random: np.random.Generator) -> bytes:
    """One part of the file repeated in another place."""
    start, end, to = np.sort(random.integers(0, len(content), 3))
    return bytes(content[:to] + content[start:end] + content[to:])


def _overwritten(content: bytearray, random: np.random.Generator) -> bytes:
    """A run of noise, of zeros or of ones."""
    start = int(random.integers(0, len(content)))
    length = int(random.integers(1, 64))
    fill = [random.bytes(length), bytes(length), b"\xff" * length][int(random.integers(3))]
    content[start : start + length] = fill
    return bytes(content)


def _numbers_blown_up(content: bytearray, random: np.random.Generator) -> bytes:
    """Four bytes near the start, where formats keep their sizes, become a huge number."""
    start = int(random.integers(0, min(64, len(content) - 4)))
    content[start : start + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\xff\xff"][random.integers(3)]
    return bytes(content)


MUTATIONS = (_bit_flips, _truncated, _spliced, _overwritten, _numbers_blown_up)


def _held(content: bytes) -> bool:
    """Is it a usable image? Fails where it is neither that nor refused in words."""
    started = time.monotonic()
    seen = inspect(content)
    assert time.monotonic() - started < LIMIT_S
    if seen.error is not None:
        assert seen.error
        assert seen.phash is None
        return False
    first, second = decode(content), decode(content)
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert (first == second).all(), "the same bytes gave two pictures"
    return True


def _survive(kind: str, mutants: int, tally: Tally) -> tuple[int, int]:
    """How many mutants were used and how many refused."""
    random = np.random.default_rng([7, sorted(ZOO).index(kind)])
    original = ZOO[kind]()
    assert _held(original)
    used = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(mutants):
            mutate = MUTATIONS[number % len(MUTATIONS)]
            with tally("mutants"):
                used += _held(mutate(bytearray(original), random))
    return used, mutants - used


@pytest.mark.parametrize("kind", ZOO)
def test_no_mutant_crashes_hangs_or_changes(kind: str, tally: Tally) -> None:
    """A few of each format, in the default run."""
    _, refused = _survive(kind, 40, tally)
    assert refused


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ZOO)
def test_no_mutant_of_many_crashes_hangs_or_changes(kind: str, tally: Tally) -> None:
    """Over ten thousand in all."""
    used, refused = _survive(kind, 1000, tally)
    tally.note(f"{kind}: {used} used, {refused} refused")
    assert used + refused == 1000
