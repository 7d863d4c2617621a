"""Processes that look at files for this one, where there are thousands of them.

A look at a small image holds Python's lock for most of its time, so two threads look at no more than one.

They are not of :mod:`multiprocessing`: processes that it spawns run the program's main module again, which a script
that calls Graftline need not be ready for, and ones that it forks inherit what the threads of this one have locked.
These know of nothing but looking. Each reads names from its standard input until that ends, as it does when this
process goes in whatever way, so that none is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pipeline.core.allocation import freed_memory_kept
from pipeline.data.inspection import Inspection, inspect

ALONE = 2_000
"""Files that threads look at in the time, half a second of a core each, that processes would have saved on them."""

PROGRAM = "import sys; sys.path[:] = {path!r}; from pipeline.data.inspectors import answer; answer()"
"""What one of the processes runs: it finds our modules and packages where this process does."""


class Inspectors:
    """A process for each thread that asks, from the time on that they are worth their start.

    That is at once where twice as many files as :data:`ALONE` are ``expected``, and else when that many have come.
    """

    def __init__(self, expected: int = 0) -> None:
        self._remaining_alone = 0 if expected >= 2 * ALONE else ALONE
        self._of_thread = threading.local()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """No thread may be asking any more."""
        for process in self._started:
            with contextlib.suppress(BrokenPipeError), process:
                process.kill()  # it holds nothing, and would take a tenth of a second to end by itself

    def inspect(self, files: Sequence[Path]) -> list[Inspection]:
        """As :func:`~pipeline.data.inspection.inspect` of each, in order.

        Where a process cannot be started, or dies, this thread looks by itself from then on, and a line says so.
        """
        self._remaining_alone -= len(files)  # threads may lose each other's count: nothing hangs on a file more or less
        if self._remaining_alone < 0 and not hasattr(self._of_thread, "process"):
            self._of_thread.process = self._start()
        process = getattr(self._of_thread, "process", None)
        seen = _asked(process, files) if process else None
        if process and seen is None:
            self._of_thread.process = None
            print(f"  a process that looks at images {_end_of(process)}; a thread takes its place", flush=True)
        return [inspect(file) for file in files] if seen is None else seen

    def _start(self) -> subprocess.Popen[str] | None:
        """In a group of its own: a terminal's Ctrl-C is for this process."""
        command = [sys.executable, "-c", PROGRAM.format(path=sys.path)]
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, process_group=0)
        except OSError as error:
            print(f"  no process to look at images could be started ({error}); a thread takes its place", flush=True)
            return None
        self._started.append(process)
        return process


def _asked(process: subprocess.Popen[str], files: Sequence[Path]) -> list[Inspection] | None:
    """What the process saw; None if it has died."""
    try:
        process.stdin.write(json.dumps([os.path.abspath(file) for file in files]) + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    except BrokenPipeError:
        return None
    answer = process.stdout.readline()  # type: ignore[union-attr]
    return [Inspection(*seen) for seen in json.loads(answer)] if answer.endswith("\n") else None


def _end_of(process: subprocess.Popen[str]) -> str:
    code = process.wait()
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def answer() -> None:
    """The whole life of such a process: for each line of names, a line with what was seen.

    What libraries print goes to standard error.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    with contextlib.suppress(BrokenPipeError), freed_memory_kept():
        for line in sys.stdin:
            print(json.dumps([inspect(Path(file)) for file in json.loads(line)]), file=answers, flush=True)
