"""Why a file cannot be used as an image, as a clause that fits after its name."""

from __future__ import annotations

import html

from PIL import UnidentifiedImageError

from pipeline.data.images import TooManyPixelsError


def of_file(error: OSError) -> str:
    """Of a file that could not be read at all."""
    return f"cannot be read: {error.strerror or error}"


def of_content(error: Exception, encoded: bytes) -> str:
    """Of bytes that a decoder refused with ``error``."""
    if isinstance(error, TooManyPixelsError):
        return f"has {error}: a decompression bomb, or a scan to cut into tiles"
    if isinstance(error, UnidentifiedImageError):
        return _not_an_image(encoded)
    if isinstance(error, MemoryError):
        return "needs more memory to decode than there is"
    return f"is broken: {str(error) or type(error).__name__}"


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
