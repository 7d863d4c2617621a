"""Whole-or-nothing writing: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict

_SUFFIX = ".partial"
_HOLDER = re.compile(r"\..+\.[a-z0-9_]{8}\.partial")
"""A temporary folder of ours: ``.NAME.k3j9x0_a.partial`` beside ``NAME``."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
"""How a file system or a kernel says that it cannot exchange two names."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` for a file, folder or symlink; put it in place when the block ends well.

    The temporary lies on the same file system. A file or link is replaced by one rename. So is a folder that is not
    there yet; one that is there is exchanged with the new one in one step where Linux and the file system can
    (``renameat2``: ext4, xfs, btrfs, tmpfs, overlayfs). Elsewhere (NFS, macOS) it takes two renames, and who looks
    between them finds no folder. On an exception the temporary is removed and ``path`` is left as it was; what a killed
    process leaves, :func:`sweep` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent))
    with _locked(holder):
        try:
            fresh = holder / path.name
            yield fresh
            _sync(fresh)
            _put_in_place(fresh, path, holder)
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def sweep(folder: Path) -> list[Path]:
    """Remove the temporaries in ``folder`` that :func:`replacing` had to leave because its process was killed.

    Returns those removed; one that a living process holds is left alone.
    """
    found = [path for path in folder.glob(f".*{_SUFFIX}") if _HOLDER.fullmatch(path.name) and path.is_dir()]
    return [holder for holder in found if _removed(holder)]


def exchange(first: Path, second: Path) -> bool:
    """Give each of two paths the other's content in one step; False where the system cannot, and nothing is changed."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(second))


@contextlib.contextmanager
def _locked(holder: Path) -> Iterator[None]:
    """Hold the folder as a living process's; the operating system frees a dead one's."""
    descriptor = os.open(holder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: sweep then leaves the folder alone
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _removed(holder: Path) -> bool:
    descriptor = os.open(holder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(holder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)


def _put_in_place(fresh: Path, path: Path, holder: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        if exchange(fresh, path):
            return  # the old folder lies in the holder now
        os.replace(path, holder / "old")  # a folder cannot replace a folder that holds something
    os.replace(fresh, path)


def _sync(path: Path) -> None:
    """Flush to disk before the rename, so that a power cut cannot leave an empty file under the final name."""
    if path.is_symlink():
        return
    inside = [item for item in path.rglob("*") if not item.is_symlink()]  # what a link leads to may be anybody's
    for folder in [item for item in (path, *inside) if item.is_dir()]:
        _close_to_strangers(folder, folder.stat().st_mode)
    for entry in [item for item in (path, *inside) if item.is_file()]:
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            _close_to_strangers(descriptor, os.fstat(descriptor).st_mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class NotAFileError(OSError):
    """A named pipe, a device or a socket where a file was expected."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; what is none is refused, because a named pipe would be waited for without end.

    Raises:
        NotAFileError: a named pipe, a device or a socket.
        OSError: as ``open``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if (kind := kind_of(os.fstat(descriptor).st_mode)) is not None:
            raise NotAFileError(errno.EINVAL, f"{kind}, not a file", str(path))
        yield file


def kind_of(mode: int) -> str | None:
    """What something is that is neither a file nor a folder, in words; None for those."""
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def is_unicode(name: str) -> bool:
    """Can a file's name be written down? Python reads bytes that are not UTF-8 as lone surrogates, which cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(path: PurePath | str) -> str:
    r"""``caf\xe9.png``: a path for people, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _close_to_strangers(entry: Path | int, mode: int) -> None:
    """Nobody but its owner and group may write it, whatever the process's umask: models and history are trusted."""
    if mode & stat.S_IWOTH:
        os.chmod(entry, stat.S_IMODE(mode) & ~stat.S_IWOTH)


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
