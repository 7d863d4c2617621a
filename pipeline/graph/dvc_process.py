"""``dvc repro`` in a process that stays for all stages of a run, because DVC takes half a second to start.

Beside the run and not in it: a stage inherits DVC's standard output, which the run reads, and what kills DVC leaves the
run to tell of it. Standard input brings the names of stages, so a stage has none.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

from pipeline.core import telemetry
from pipeline.core.processes import end_within
from pipeline.core.progress import STREAM_VARIABLE
from pipeline.graph.child import PARENT_VARIABLE

TAIL = 40
"""Lines of a failed stage's errors that are kept."""

UNTOLD = 141
"""Exit code where DVC lost its standard output, and so could not tell one: that of a command after a broken pipe."""

PATIENCE_S = 10.0
"""For a stage that is asked to end before its time."""


class DvcProcess:
    """The run's side. The process starts with the first stage, and anew where it was killed."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._mark = f"{secrets.token_hex(16)} "
        """Begins the line, on both streams, that ends what one ``dvc repro`` and its stage have said; random: no stage
        prints it by chance."""
        self._idle: subprocess.Popen[str] | None = None

    def repro(self, name: str, emit: Callable[[str], None]) -> tuple[int, str]:
        """``dvc repro --single-item NAME``: its exit code (negative: the signal that killed it) and the end of its
        errors; ``emit`` gets what the stage says (our stages indent it, DVC does not).

        Interrupted, it ends the stage before it lets go.
        """
        process, self._idle = self._idle, None
        if process is None or process.poll() is not None:
            process = self._start()
        try:
            code, errors = self._ask(process, name, emit)
        except BaseException:
            _abandon(process)
            raise
        if code is not None:
            self._idle = process
            return code, errors
        with process:
            return process.wait() or UNTOLD, errors

    def close(self) -> None:
        """The process ends."""
        if self._idle is not None:
            with self._idle:
                _end(self._idle)
            self._idle = None

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, self._mark],  # -P: what lies in the workspace is not ours to import
            cwd=self._workspace,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def _ask(self, process: subprocess.Popen[str], name: str, emit: Callable[[str], None]) -> tuple[int | None, str]:
        """The exit code is None where the process ended, or lost its standard output, before it told one."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        complaints: deque[str] = deque(maxlen=TAIL)
        reader = threading.Thread(target=_read, args=(process.stderr, self._mark, complaints.append), daemon=True)
        reader.start()
        with contextlib.suppress(BrokenPipeError):  # killed this moment: its streams end, too
            print(name, file=process.stdin, flush=True)

        def tell(line: str) -> None:
            if line.startswith("  "):
                emit(line.rstrip("\n"))

        code = _read(process.stdout, self._mark, tell)
        if code is None:  # it may live on, without a standard output: DVC takes that away after a broken pipe
            _end(process)
        reader.join()
        return code, "".join(complaints).strip("\n")


def _read(stream: IO[str], mark: str, tell: Callable[[str], None]) -> int | None:
    """``tell`` every line up to the one that gives the exit code; None where the stream ends before."""
    for line in iter(stream.readline, ""):
        if line.startswith(mark):
            return int(line.removeprefix(mark))
        tell(line)
    return None


def _end(process: subprocess.Popen[str]) -> None:
    """Close standard input, at which it ends once it is idle, and wait for that."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # a name that it never read
        process.stdin.close()
    process.wait()


def _abandon(process: subprocess.Popen[str]) -> None:
    """End the stage that it runs, and then itself: a run that was interrupted must not leave the workspace in use."""
    assert process.stdout is not None
    process.stdout.close()  # nobody reads it any more, and whoever writes must not wait for that
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    end_within(PATIENCE_S, family)
    _end(process)


def _environment() -> dict[str, str]:
    """For the stage's process: our own commands on the PATH, and a place to draw its progress bar."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    environment[PARENT_VARIABLE] = str(os.getpid())
    environment[STREAM_VARIABLE] = os.ttyname(2) if sys.stderr.isatty() else "/dev/stdout"
    return environment


def _stages_asked_for() -> Iterator[str]:
    """Names from standard input, which is then nobody else's: a stage that read it would take those after its own."""
    with open(os.dup(0), encoding="utf-8") as asked:
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for line in asked:
            yield line.rstrip("\n")


def main() -> None:
    """DVC's side: reproduce each stage whose name comes by standard input, which ends with the run."""
    telemetry.off()
    from dvc.cli import main as dvc

    mark = sys.argv[1]
    for name in _stages_asked_for():
        arguments = ["repro", "--single-item", name]
        sys.argv = ["dvc", *arguments]  # which DVC names to others whom it keeps waiting
        code = dvc(arguments)
        for stream in (sys.stdout, sys.stderr):
            print(f"\n{mark}{code}", file=stream, flush=True)


if __name__ == "__main__":
    main()
