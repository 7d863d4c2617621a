"""One look at one image; whatever is wrong with it is said in words."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.inspection import inspect
from pipeline.data.inspection_cache import InspectionCache
from pipeline.data.inspection_stream import inspect_all


def noise(side_px: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 50,000 × 50,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_good_image_is_described(tmp_path):
    """Digest, size, mode, format and hash, from one reading of the file."""
    content = encoded(noise(64), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    seen = inspect(tmp_path / "a.jpg")

    assert (64, 64, "RGB", "JPEG", None) == (seen.width, seen.height, seen.mode, seen.format, seen.error)
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (seen.id, seen.bytes)
    assert 16 == len(seen.phash)
    assert seen.brightness > 0.5
    assert seen.sharpness > 1000


def test_bytes_and_a_file_give_the_same(tmp_path):
    """Where the bytes come from makes no difference."""
    content = encoded(noise(), "PNG")
    (tmp_path / "a.png").write_bytes(content)

    assert inspect(content) == inspect(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not found, sorry", "is text that begins 'not found, sorry', not an image"),
        (b"\n<!DOCTYPE html><html><body>403</body></html>", "is an HTML page, not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is XML, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not an image: run git lfs pull"),
        (b"\x00\x01\x02\x03" * 20, "is not in an image format that Pillow can read"),
        (bomb(), "has more than 67,108,864 pixels: a decompression bomb, or a scan to cut into tiles"),
    ],
)
def test_what_is_no_image_is_named_for_what_it_is(content, error):
    """The error is a clause that fits after the image's name."""
    assert error == inspect(content).error


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_found(kind, share):
    """The header is intact; only decoding to the last byte shows that the end is missing."""
    content = encoded(noise(96), kind)
    seen = inspect(content[: int(share * len(content))])

    assert seen.error is not None
    assert seen.phash is None


def test_a_missing_file_is_an_error_not_a_crash(tmp_path):
    """A row of a table may name a file that is not there."""
    assert "cannot be read: No such file or directory" == inspect(tmp_path / "gone.jpg").error


def test_items_come_back_in_order_and_few_are_held():
    """Threads run ahead by a bounded number of items, not by the whole data set."""
    asked = []

    def items():
        for number in range(100):
            asked.append(number)
            yield number

    content = encoded(noise(8), "PNG")
    inspected = inspect_all(items(), lambda number: content, InspectionCache(None), workers=2)
    first = next(inspected)

    assert 0 == first[0]
    assert len(asked) <= 2 * 4 + 1
    assert list(range(1, 100)) == [number for number, _ in inspected]


def test_files_are_looked_at_by_several_threads(tmp_path, monkeypatch):
    """Two files are in work at once: each waits until the other has begun."""
    barrier = threading.Barrier(2, timeout=10)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(encoded(noise(8), "PNG"))
    read = Path.read_bytes

    def read_together(path: Path) -> bytes:
        barrier.wait()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_together)

    assert [None, None] == [
        seen.error for _, seen in inspect_all(files, lambda file: file, InspectionCache(None), workers=2)
    ]
