"""One look at one image: its digest, its header, whether it decodes to the last byte, perceptual hash and exposure."""

from __future__ import annotations

import html
from pathlib import Path
from typing import NamedTuple

from PIL import UnidentifiedImageError

from pipeline.core import digests
from pipeline.core.files import reading
from pipeline.data.exposure import SIDE_PX, exposure
from pipeline.data.images import TooManyPixelsError, as_grey, opened
from pipeline.data.perceptual_hash import phash


class Inspection(NamedTuple):
    """What the manifest says of one image. ``error`` is a clause that fits after the image's name, or None."""

    id: str
    bytes: int
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    phash: str | None = None
    brightness: float | None = None
    sharpness: float | None = None
    error: str | None = None


def inspect(content: bytes | Path) -> Inspection:
    """Inspect encoded bytes, or a file that is read once. Never raises for a bad image: it says so in ``error``."""
    try:
        encoded = _read(content) if isinstance(content, Path) else content
    except OSError as error:
        return Inspection(id=digests.of_bytes(b""), bytes=0, error=f"cannot be read: {error.strerror or error}")
    seen = Inspection(id=digests.of_bytes(encoded), bytes=len(encoded))
    try:
        return _decoded(seen, encoded)
    except TooManyPixelsError as error:
        return seen._replace(error=f"has {error}: a decompression bomb, or a scan to cut into tiles")
    except UnidentifiedImageError:
        return seen._replace(error=_not_an_image(encoded))
    except MemoryError:
        return seen._replace(error="needs more memory to decode than there is")
    except Exception as error:  # noqa: BLE001 - on broken bytes Pillow's decoders raise SyntaxError, struct.error, …
        return seen._replace(error=f"is broken: {str(error) or type(error).__name__}")


def _read(file: Path) -> bytes:
    with reading(file) as opened_file:
        return opened_file.read()


def _decoded(seen: Inspection, encoded: bytes) -> Inspection:
    with opened(encoded) as image:
        width, height, mode, kind = image.width, image.height, image.mode, image.format
        grey = as_grey(image, SIDE_PX)  # to the last byte: a truncated file fails here
    seen = seen._replace(width=width, height=height, mode=mode, format=kind, phash=phash(grey))
    return seen._replace(**exposure(grey)._asdict())


def _not_an_image(encoded: bytes) -> str:
    """What the bytes look like instead, as far as a person can use it."""
    if not encoded:
        return "is empty (0 bytes)"
    start = encoded[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"<":
        kind = "an HTML page" if b"<html" in encoded[:1024].lower() or b"<!doctype html" in start.lower() else "XML"
        return f"is {kind}, not an image"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not an image: run git lfs pull"
    text = start[:32].decode("ascii", errors="replace").splitlines()[0]
    if text.isprintable() and "\ufffd" not in text:
        return f"is text that begins '{html.unescape(text)}', not an image"
    return "is not in an image format that Pillow can read"
