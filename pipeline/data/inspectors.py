"""Processes that look at files for this one, where there are thousands of them.

A look at a small image holds Python's lock for most of its time, so two threads look at hardly more than one.

They are not of :mod:`multiprocessing`: processes that it spawns run the program's main module again, which a script
that calls Graftline need not be ready for, and ones that it forks inherit what the threads of this one have locked.
These know of nothing but looking. Each ends when its standard input does, as it does when this process goes in whatever
way.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pipeline.core.allocation import freed_memory_kept
from pipeline.data import images
from pipeline.data.inspection import Inspection, inspect

ALONE = 2_000
"""Fewer files than this are done by threads as soon: a process takes a third of a second of a core to start."""

START_S = 60.0
"""Until a process that has not said that it is ready is taken for something else."""

WAIT_S = 5.0
"""For a process that has closed its end of a pipe to have ended."""

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from pipeline.data.inspectors import answer; answer({answers})"
)
"""What one of the processes runs: it finds modules where this process does."""

MARK = "GRAFTLINE_INSPECTOR"
"""Set in the environment of such a process: should it be this very program instead, it starts no more of them."""

ENVIRONMENT = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", MARK), "1")
"""Libraries of linear algebra would start a thread per core in each."""


class Inspectors:
    """A process for each thread that asks, from the time on that they are worth their start.

    That is at once where :data:`ALONE` files are ``expected``, and else once so many have come.
    """

    def __init__(self, expected: int = 0) -> None:
        self._remaining_alone = 0 if expected >= ALONE else ALONE
        self._of_thread = threading.local()
        self._ready: list[_Inspector] = []
        self._refusing = threading.Lock()
        self._refused = not _can_be_started()
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """No thread may be asking any more."""
        for process in self._ready:
            process.end()

    def stop(self) -> None:
        """Let nobody look any further: whoever is asking gets no answer, but an error."""
        self._stopped = True
        for process in self._ready:
            process.kill()

    def inspect(self, files: Sequence[Path]) -> list[Inspection]:
        """As :func:`~pipeline.data.inspection.inspect` of each, in order.

        A thread whose process dies looks by itself from then on, and where one cannot be started no other is; a line
        says so.

        Raises:
            StoppedError: :meth:`stop` was called.
        """
        self._remaining_alone -= len(files)  # threads may lose each other's count: nothing hangs on a file more or less
        process = self._of_this_thread() if self._remaining_alone < 0 else None
        if process:
            try:
                return process.inspect(files)
            except _EndedError as error:
                self._of_thread.process = None
                if not self._stopped:
                    print(f"  a process that looks at images {error}; a thread takes its place", flush=True)
        return [self._inspect_here(file) for file in files]

    def _inspect_here(self, file: Path) -> Inspection:
        if self._stopped:
            raise StoppedError
        return inspect(file)

    def _of_this_thread(self) -> _Inspector | None:
        if not hasattr(self._of_thread, "process"):
            self._of_thread.process = None if self._refused else self._start()
        process: _Inspector | None = self._of_thread.process
        return process

    def _start(self) -> _Inspector | None:
        try:
            process = _Inspector()
        except (OSError, ValueError, _EndedError) as error:
            with self._refusing:
                is_told, self._refused = self._refused, True
            if not is_told:
                print(f"  no process to look at images could be started ({error}); threads do without", flush=True)
            return None
        self._ready.append(process)
        if self._stopped:  # meanwhile, by somebody who did not see this one
            process.kill()
        return process


def _can_be_started() -> bool:
    """Is there an interpreter, and a place for what it complains of?"""
    is_program = getattr(sys, "frozen", False) or MARK in os.environ
    return bool(sys.executable) and not is_program and sys.__stderr__ is not None


class StoppedError(Exception):
    """Nobody wants to know what is in the files any more."""


class _EndedError(Exception):
    """A clause that follows 'the process'."""


class _Inspector:
    """One process, from this side; it is ready.

    Answers have a pipe of their own, so that nothing printed over there is taken for one. In a session of its own: a
    terminal's Ctrl-C is for this process.

    Raises:
        OSError, ValueError: it cannot be started.
        _EndedError: it has ended at once, is no interpreter, or decodes otherwise than this process.
    """

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self._answers = open(reading, encoding="ascii")  # noqa: SIM115 - closed by end()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM.format(answers=writing)],
                stdin=subprocess.PIPE,
                stdout=sys.__stderr__,
                encoding="ascii",
                pass_fds=[writing],
                env=os.environ | ENVIRONMENT,
                start_new_session=True,
            )
        except BaseException:
            self._answers.close()
            raise
        finally:
            os.close(writing)
        try:
            self._begin()
        except BaseException:
            self.end()
            raise

    def _begin(self) -> None:
        self._tell([entry for entry in sys.path if isinstance(entry, str)])
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if not selector.select(START_S):
                raise _EndedError(f"it said nothing for {START_S:g} s")
        if self._answer() != images.decoders():
            raise _EndedError("it would not see what this one sees: Pillow has been set up otherwise here")

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

    def _answer(self) -> list[Any]:
        line = self._answers.readline()
        if not line.endswith("\n"):
            raise _EndedError(self._how_it_ended())
        answer: list[Any] = json.loads(line)
        return answer

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            return "no longer answers"
        return f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        """It holds nothing, and would take a tenth of a second to end by itself."""
        self._process.kill()

    def end(self) -> None:
        """No thread may be asking any more."""
        self.kill()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError), self._process:
            pass


def answer(descriptor: int) -> None:
    """The whole life of such a process: for each line of paths, a line with what was seen, into ``descriptor``."""
    warnings.simplefilter("ignore")
    answers = open(descriptor, "w", encoding="ascii")  # noqa: SIM115 - until the process ends
    try:
        print(json.dumps(images.decoders()), file=answers, flush=True)
        with freed_memory_kept():
            for line in sys.stdin:
                seen = [inspect(Path(os.fsdecode(file.encode("latin-1")))) for file in json.loads(line)]
                print(json.dumps(seen), file=answers, flush=True)
    except BrokenPipeError:  # nobody reads any more: leave without a word about what could not be written
        os._exit(0)
