"""Progress for people: a bar on a terminal, a line now and then in a log, nothing for work under two seconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

STREAM_VARIABLE = "GRAFTLINE_PROGRESS"
"""Names the file to report to (a terminal, for a process whose standard error is captured); default standard error."""

QUIET_S = 2.0
"""Work shorter than this shows nothing."""

LOG_EVERY_S = 15.0
"""Where there is no terminal, one line this often."""


def track(items: Iterable[Item], *, what: str, unit: str, total: int) -> Iterator[Item]:
    """Yield ``items``, reporting as it goes: ``features  1,200/3,000 images · 410 images/s``."""
    meter = Meter(what=what, unit=unit, total=total)
    try:
        for item in items:
            yield item
            meter.advance()
    finally:
        meter.close()


class Meter:
    """The counter behind :func:`track`, for work that advances in steps of more than one."""

    def __init__(self, *, what: str, unit: str, total: int) -> None:
        self.what, self.unit, self.total = what, unit, total
        self.done = 0
        self._started = self._last = time.monotonic()
        path = os.environ.get(STREAM_VARIABLE)
        self._stream = open(path, "a", encoding="utf-8") if path else sys.stderr  # noqa: SIM115 - closed in close()
        self._is_terminal = self._stream.isatty()
        self._shown = False

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        interval_s = 0.1 if self._is_terminal else LOG_EVERY_S
        if now - self._started >= QUIET_S and now - self._last >= interval_s:
            self._last = now
            self._show(now)

    def _show(self, now: float) -> None:
        text = f"{self.what}  {self.done:,}/{self.total:,} {self.unit}{self._pace(now)}"
        if self._is_terminal:
            filled = int(24 * self.done / max(self.total, 1))
            self._stream.write(f"\r\x1b[K  {'━' * filled}{'╌' * (24 - filled)} {text}")
        else:
            self._stream.write(f"  {text}\n")
        self._stream.flush()
        self._shown = True

    def _pace(self, now: float) -> str:
        """Nothing before the first is done; of slow work, how long each takes."""
        took = max(now - self._started, 1e-9)
        if self.done == 0:
            return ""
        rate = self.done / took
        return f" · {rate:,.0f} {self.unit}/s" if rate >= 1 else f" · {1 / rate:,.1f} s each"

    def close(self) -> None:
        """Wipe the bar, so that the stage's own line takes its place."""
        if self._shown and self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        if self._stream is not sys.stderr:
            self._stream.close()
