"""One look at one image: its digest, its header, whether it decodes to the last byte, perceptual hash and exposure."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.core import digests
from pipeline.core.files import reading
from pipeline.data import unreadable
from pipeline.data.exposure import SIDE_PX, exposure
from pipeline.data.images import as_grey, opened
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
        return Inspection(id=digests.of_bytes(b""), bytes=0, error=unreadable.of_file(error))
    seen = Inspection(id=digests.of_bytes(encoded), bytes=len(encoded))
    try:
        return _decoded(seen, encoded)
    except Exception as error:  # noqa: BLE001 - on broken bytes Pillow's decoders raise SyntaxError, struct.error, …
        return seen._replace(error=unreadable.of_content(error, encoded))


def _read(file: Path) -> bytes:
    with reading(file) as opened_file:
        return opened_file.read()


def _decoded(seen: Inspection, encoded: bytes) -> Inspection:
    with opened(encoded) as image:
        width, height, mode, kind = image.width, image.height, image.mode, image.format
        grey = as_grey(image, SIDE_PX)  # to the last byte: a truncated file fails here
    seen = seen._replace(width=width, height=height, mode=mode, format=kind, phash=phash(grey))
    return seen._replace(**exposure(grey)._asdict())
