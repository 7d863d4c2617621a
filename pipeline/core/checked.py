"""Bytes kept under their digest, for what can be made again: a file in which a bit has flipped is as good as none."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import digests
from pipeline.core.files import write_bytes

DIGEST_LENGTH = 64
"""Hex digits of SHA-256 before the content; Parquet, ONNX and JSON have no checksum that covers all of a file."""


def write(path: Path, content: bytes) -> None:
    """Put ``content`` in place whole, behind its digest.

    Raises:
        OSError: the disk refused.
    """
    write_bytes(path, digests.of_bytes(content).encode() + content)


def read(path: Path) -> bytes | None:
    """What was written; None where there is no such file, or it is no longer what was written.

    Raises:
        OSError: it is there and cannot be read.
    """
    if not path.is_file():
        return None
    kept = path.read_bytes()
    digest, content = kept[:DIGEST_LENGTH], kept[DIGEST_LENGTH:]
    return content if digests.of_bytes(content).encode() == digest else None
