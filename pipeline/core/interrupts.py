"""Signals that end a run, as exceptions: what was begun is put in order on the way out."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM, which service managers and job schedulers send, ends a run as Ctrl-C does."""


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """In the block, SIGTERM raises :class:`Terminated` in the main thread. Only to be called there."""

    def interrupt(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
