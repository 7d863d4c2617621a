"""This machine. Rows are mapped over in the stage's own process, whose threads have every core; training processes are
started as ``torchrun`` starts them.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.core.errors import ServiceError
from pipeline.scale.engine import RESTARTS, Part

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.scale.options import Scale

WATCH_EVERY_S = 0.2
"""How often torchrun's agent looks whether a process has died."""

ENDING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end the processes before they end this one."""

_PR_SET_PDEATHSIG = 1


def check(scale: Scale) -> None:
    """Nothing is needed beyond torch."""


def mapped(
    make: Callable[[], Part], rows: pd.DataFrame, *, part_rows: int, scale: Scale, threads: int, gpu: bool
) -> Iterator[pd.DataFrame]:
    """All rows as one part, so that decoding never has to wait for the end of one."""
    yield from make()(rows)


def together(work: Callable[[int], None], *, scale: Scale, threads: int, backend: str) -> None:
    """By torch's elastic agent, the inside of ``torchrun``; the processes share the threads."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with _signals_as_before() as ending, _temporaries() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=scale.workers,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=RESTARTS,
            monitor_interval=WATCH_EVERY_S,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle=",".join(number.name for number in ending),
        )
        try:
            elastic_launch(config, _call)(pickle.dumps(work), max(1, threads // scale.workers), os.getpid())
        except ChildFailedError as error:
            raise ServiceError(
                f"The {scale.workers} training processes failed {RESTARTS + 1} times; the last to say why:\n"
                f"{_last_words(error)}"
            ) from error


@contextmanager
def _temporaries() -> Iterator[str]:
    """A folder for what torch's agent, and processes that were killed, leave lying about; its path.

    Torch puts a failed process's traceback where ``tempfile`` says, and never removes it.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="graftline-together-") as folder:
        tempfile.tempdir = folder
        try:
            yield folder
        finally:
            tempfile.tempdir = before


@contextmanager
def _signals_as_before() -> Iterator[list[signal.Signals]]:
    """Yield the signals that torch's agent may take over; what it replaced is put back, and what came is passed on.

    The agent leaves its handlers behind, and they raise an ordinary exception: Ctrl-C would look like a defect. What is
    ignored here (``nohup``) stays so. Handlers are the main thread's: in another the agent sets none.
    """
    from torch.distributed.elastic.multiprocessing import SignalException

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in ENDING} if is_main else {}
    came = None
    try:
        yield [number for number in ENDING if before.get(number) != signal.SIG_IGN]
    except SignalException as error:
        came = error.sigval
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if came is not None:
        signal.raise_signal(came)
        raise SystemExit(128 + came)  # whoever handled it let us go on, but the processes have been ended


def _call(work: bytes, threads: int, parent: int) -> None:
    """In each process. As bytes, because torch would let all of them share the tensors in ``work``, and change them."""
    _die_with(parent)
    pickle.loads(work)(threads)  # noqa: S301  # nosec B301 - written by the process that started this one


def _die_with(parent: int) -> None:
    """Where the kernel can (Linux), end this process when the one that started it has gone.

    Torch asks for SIGINT then, which a process that waits for another's numbers does not see, and one that was started
    under ``nohup … &`` ignores: it would train on beside the run that follows.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it went before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _last_words(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[-12:])
