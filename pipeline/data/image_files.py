"""Which file names count as images."""

from __future__ import annotations

from pathlib import PurePath

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)


def is_image_name(name: str) -> bool:
    """Does the name end as an image's does? Hidden files never count."""
    return PurePath(name).suffix.lower() in SUFFIXES and not name.startswith(".")
