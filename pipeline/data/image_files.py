"""Which file names count as images."""

from __future__ import annotations

import os

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)


def is_image_name(name: str) -> bool:
    """Does the name end as an image's does? Hidden files never count."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
