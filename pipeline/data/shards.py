"""Tar shards: many small images in few large files, each image readable by its offset and length.

Uncompressed, in the order they came, with no clock and no owner in the headers: equal images make equal bytes.
Any tar program unpacks them; WebDataset-style readers stream them.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

LOCATION = "data/shards"
"""Where ingest's shards lie in the workspace."""

MAX_SHARD_MB = 512


class Place(NamedTuple):
    """Where an image's bytes are: ``length`` bytes from ``offset`` on in the shard of that file name."""

    shard: str
    offset: int
    length: int


class ShardWriter:
    """Writes ``<prefix>-00000.tar``, ``<prefix>-00001.tar``, … into ``folder``; a context manager."""

    def __init__(self, folder: Path, prefix: str, max_shard_mb: float = MAX_SHARD_MB) -> None:
        self._folder, self._prefix = folder, prefix
        self._max_bytes = int(max_shard_mb * 2**20)
        self._count = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, name: str, content: bytes) -> Place:
        """Append one member; begin a new shard where the present one is full."""
        tar = self._tar
        if tar is None or (tar.offset and tar.offset + len(content) > self._max_bytes):
            tar = self._next()
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return Place(shard=self._file_name(self._count - 1), offset=tar.offset - padded, length=len(content))

    def _next(self) -> tarfile.TarFile:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tar = tarfile.open(self._folder / self._file_name(self._count), "w")  # noqa: SIM115 - `close` closes it
        self._count += 1
        return self._tar

    def _file_name(self, number: int) -> str:
        return f"{self._prefix}-{number:05d}.tar"

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
