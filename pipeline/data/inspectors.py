"""Processes that look at files for this one, where there are thousands of them.

A look at a small image holds Python's lock for most of its time, so two threads look at no more than one.

They are not of :mod:`multiprocessing`: processes that it spawns run the program's main module again, which a script
that calls Graftline need not be ready for, and ones that it forks inherit what the threads of this one have locked.
These know of nothing but looking. Each ends when its standard input does, as it does when this process goes in whatever
way.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from PIL import Image, ImageFile

from pipeline.core.allocation import freed_memory_kept
from pipeline.data.inspection import Inspection, inspect

ALONE = 2_000
"""So many files are looked at by threads before processes, half a second of a core each to start, would save that."""

START_S = 60.0
"""Until a process that has not said that it is ready is taken for something else."""

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from pipeline.data.inspectors import answer; answer({answers})"
)
"""What one of the processes runs: it finds modules where this process does."""

ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
"""Libraries of linear algebra start a thread per core in each process, which none of these needs."""


class Inspectors:
    """A process for each thread that asks, from the time on that they are worth their start.

    That is at once where :data:`ALONE` files are ``expected``, and else once so many have come.
    """

    def __init__(self, expected: int = 0) -> None:
        self._remaining_alone = 0 if expected >= ALONE else ALONE
        self._of_thread = threading.local()
        self._started: list[_Inspector] = []
        self._refused = not _can_be_started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """No thread may be asking any more."""
        for process in self._started:
            process.end()

    def inspect(self, files: Sequence[Path]) -> list[Inspection]:
        """As :func:`~pipeline.data.inspection.inspect` of each, in order.

        Where no process can be started, or one dies, threads look from then on, and a line says so.
        """
        self._remaining_alone -= len(files)  # threads may lose each other's count: nothing hangs on a file more or less
        process = self._of_this_thread() if self._remaining_alone < 0 else None
        if process:
            try:
                return process.inspect(files)
            except _EndedError as error:
                self._of_thread.process = None
                print(f"  a process that looks at images {error}; a thread takes its place", flush=True)
        return [inspect(file) for file in files]

    def _of_this_thread(self) -> _Inspector | None:
        if not hasattr(self._of_thread, "process"):
            self._of_thread.process = None if self._refused else self._start()
        process: _Inspector | None = self._of_thread.process
        return process

    def _start(self) -> _Inspector | None:
        try:
            process = _Inspector()
            self._started.append(process)
            process.wait_until_ready()
        except (OSError, _EndedError) as error:
            if not self._refused:
                print(f"  no process to look at images could be started ({error}); threads do without", flush=True)
            self._refused = True
            return None
        return process


def _can_be_started() -> bool:
    """Is there an interpreter, and nothing in this one that others would not know?

    What a caller has registered with Pillow, or told it to put up with, decides what an image is.
    """
    if not sys.executable or getattr(sys, "frozen", False) or sys.__stderr__ is None:
        return False
    by_pillow = all(getattr(opener, "__module__", "").startswith("PIL.") for opener, _ in Image.OPEN.values())
    return by_pillow and not ImageFile.LOAD_TRUNCATED_IMAGES


class _EndedError(Exception):
    """A clause that follows 'the process'."""


class _Inspector:
    """One process, from this side.

    Answers have a pipe of their own: whatever is printed over there goes to standard error. In a session of its own:
    a terminal's Ctrl-C is for this process.
    """

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self._answers = open(reading, encoding="ascii")  # noqa: SIM115 - closed by end()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(answers=writing)],
                stdin=subprocess.PIPE,
                stdout=sys.__stderr__,
                encoding="ascii",
                pass_fds=[writing],
                env=os.environ | ONE_THREAD,
                start_new_session=True,
            )
        except OSError:
            self._answers.close()
            raise
        finally:
            os.close(writing)

    def wait_until_ready(self) -> None:
        """Raises: _EndedError: it has ended, or is no interpreter."""
        self._tell([entry for entry in sys.path if isinstance(entry, str)])
        if not select.select([self._answers], [], [], START_S)[0]:
            raise _EndedError(f"said nothing for {START_S:.0f} s")
        self._answer()

    def inspect(self, files: Sequence[Path]) -> list[Inspection]:
        """Raises: _EndedError: it has ended."""
        self._tell([os.fsencode(file.absolute()).decode("latin-1") for file in files])
        return [Inspection(*seen) for seen in self._answer()]

    def _tell(self, value: list[str]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise _EndedError(self._how_it_ended()) from None

    def _answer(self) -> list[list[Any]]:
        line = self._answers.readline()
        if not line.endswith("\n"):
            raise _EndedError(self._how_it_ended())
        answer: list[list[Any]] = json.loads(line)
        return answer

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        return f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with code {code}"

    def end(self) -> None:
        """It holds nothing, and would take a tenth of a second to end by itself."""
        self._process.kill()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError), self._process:
            pass


def answer(descriptor: int) -> None:
    """The whole life of such a process: for each line of paths, a line with what was seen, into ``descriptor``."""
    warnings.simplefilter("ignore")
    answers = open(descriptor, "w", encoding="ascii")  # noqa: SIM115 - until the process ends
    try:
        print(json.dumps([]), file=answers, flush=True)
        for line in sys.stdin:
            with freed_memory_kept():
                seen = [inspect(Path(os.fsdecode(file.encode("latin-1")))) for file in json.loads(line)]
            print(json.dumps(seen), file=answers, flush=True)
    except BrokenPipeError:  # nobody reads any more: leave without a word about what could not be written
        os._exit(0)
