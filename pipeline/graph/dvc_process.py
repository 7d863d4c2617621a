"""``dvc repro`` in a process that stays for all stages of a run, because DVC takes half a second to start.

Beside the run and not in it: a stage inherits DVC's standard output, which the run reads, and what kills DVC leaves the
run to tell of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pipeline.core.progress import STREAM_VARIABLE
from pipeline.graph.child import PARENT_VARIABLE

ENDED = "dvc repro ended with exit code "
"""Begins the line, on both streams, after all that one ``dvc repro`` and its stage have said."""

TAIL = 40
"""Lines of a failed stage's errors that are kept."""


class DvcProcess:
    """The run's side. The process starts with the first stage, and anew where it was killed."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._idle: subprocess.Popen[str] | None = None
        """None while it has a stage to run: an interrupted run leaves the process to end after that."""

    def repro(self, name: str, emit: Callable[[str], None]) -> tuple[int, str]:
        """``dvc repro --single-item NAME``: its exit code (negative: the signal that killed it) and the end of its
        errors; ``emit`` gets what the stage says (our stages indent it, DVC does not)."""
        process, self._idle = self._idle, None
        if process is None or process.poll() is not None:
            process = _start(self._workspace)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        complaints: deque[str] = deque(maxlen=TAIL)
        reader = threading.Thread(target=_read, args=(process.stderr, complaints.append), daemon=True)
        reader.start()
        print(name, file=process.stdin, flush=True)
        code = _read(process.stdout, lambda line: emit(line.rstrip("\n")) if line.startswith("  ") else None)
        reader.join()
        if code is None:
            code = process.wait()
        else:
            self._idle = process
        return code, "".join(complaints).strip("\n")

    def close(self) -> None:
        """The process ends."""
        if self._idle is not None:
            with self._idle:  # closes its standard input, at which it ends, and waits
                self._idle = None


def _start(workspace: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],  # -P: what lies in the workspace is not ours to import
        cwd=workspace,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _read(stream: IO[str], tell: Callable[[str], None]) -> int | None:
    """``tell`` every line up to the one that gives the exit code; None where the stream ends before."""
    for line in iter(stream.readline, ""):
        if line.startswith(ENDED):
            return int(line.removeprefix(ENDED))
        tell(line)
    return None


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
    """The other side: until standard input ends, which it does with the run."""
    from dvc.cli import main as dvc

    for name in _stages_asked_for():
        code = dvc(["repro", "--single-item", name])
        for stream in (sys.stdout, sys.stderr):
            print(f"\n{ENDED}{code}", file=stream, flush=True)


if __name__ == "__main__":
    main()
