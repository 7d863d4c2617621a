"""Whole-or-nothing writing: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` for a file or folder; put it in place when the block ends well.

    The temporary lies on the same file system, so the final rename is atomic; on an exception it is removed and
    ``path`` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        fresh = holder / path.name
        yield fresh
        _sync(fresh)
        _put_in_place(fresh, path, holder)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _put_in_place(fresh: Path, path: Path, holder: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        os.replace(path, holder / "old")  # a folder cannot replace a folder that holds something
    os.replace(fresh, path)


def _sync(path: Path) -> None:
    """Flush to disk before the rename, so that a power cut cannot leave an empty file under the final name."""
    for entry in [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]:
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as fresh:
        fresh.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


class Document(BaseModel):
    """A small typed record kept as indented JSON; the base of every report a stage writes."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def save(self, path: Path) -> None:
        write_text(path, self.model_dump_json(indent=2) + "\n")


class Folder:
    """A folder that a stage fills file by file, by its path. ``save`` moves it into place whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(path)

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            shutil.copytree(self.path, fresh)
