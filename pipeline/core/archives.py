"""Zip archives that are a kind of file: checkpoints (.pt), arrays (.npz). Nothing is ever unpacked to disk."""

from __future__ import annotations

import zipfile
from pathlib import Path


def unpacked_bytes(path: Path) -> int | None:
    """What a packed archive unpacks to; None where it is as large as it looks, as torch and numpy write them.

    A packed one may unpack to a thousand times its size and more: a zip bomb.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    told = sum(entry.file_size for entry in entries)
    is_packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    return told if is_packed or told > path.stat().st_size else None


def check_not_packed(path: Path) -> None:
    """As :func:`unpacked_bytes`, for readers that meet other damage as an error too.

    Raises:
        ValueError: it is packed.
    """
    if (told := unpacked_bytes(path)) is not None:
        raise ValueError(f"{path.stat().st_size / 1e6:,.1f} MB that are packed and unpack to {told / 1e6:,.0f} MB")
