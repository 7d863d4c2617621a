"""Has a file changed? Asked of the file system alone."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

SETTLED_NS = 2 * 10**9
"""Since a file's last change, before its times can be trusted: FAT's tick, the coarsest there is."""


class FileState(NamedTuple):
    """What changes with a file's content. The time of change of the inode is one that programs cannot set back."""

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> FileState | None:
        """None where there is no file to ask."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return cls(found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def settled(path: str | os.PathLike[str]) -> FileState | None:
    """The state of a file that cannot change without its state telling; None where it has changed just now, and may
    again within the tick of a coarse clock (git calls such files racily clean), or is gone."""
    state = FileState.of(path)
    return state if state and max(state.mtime_ns, state.ctime_ns) < time.time_ns() - SETTLED_NS else None
