"""One piece of work in several processes that form a process group of torch."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pipeline.core import disk, errors
from pipeline.core.allocation import freed_memory_kept
from pipeline.core.errors import GraftlineError, ParamsError, ServiceError
from pipeline.core.files import write_text
from pipeline.scale import engine
from pipeline.scale.options import Scale


def run(work: Callable[[], None], scale: Scale, folder: Path, device: torch.device) -> None:
    """Call ``work`` in each of ``scale.workers`` processes that torch has joined: by gloo on CPUs, by NCCL on GPUs.

    A process that dies takes the others with it, and all start anew, so ``work`` should go on from what it has kept.
    What it gives back it leaves in files. ``folder`` is where an error is left, which all machines must see.

    Raises:
        GraftlineError, OSError, MemoryError, torch.OutOfMemoryError: as ``work`` raised it.
        ServiceError: processes died too often.
        ParamsError: there are fewer GPUs here than workers.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    if backend == "nccl" and scale.engine == "local" and scale.workers > torch.cuda.device_count():
        raise ParamsError(
            expected=f"at most {torch.cuda.device_count()} workers, one for each GPU of this machine",
            found=str(scale.workers),
            where="scale.workers in params.yaml",
            remedy="Lower it, or set runtime.device to cpu.",
        )
    failure = folder / "failure.json"
    failure.unlink(missing_ok=True)
    each = partial(_one, work, failure, backend)
    try:
        engine.of(scale).together(each, scale=scale, threads=torch.get_num_threads(), backend=backend)
    except ServiceError as error:
        _raise_told(failure)  # the starts were used up by deaths before it, or on those that waited
        if disk.says_full(error):  # so full that not even the failure could be told
            raise OSError(errno.ENOSPC, str(error), str(failure)) from error
        raise
    _raise_told(failure)


def _one(work: Callable[[], None], failure: Path, backend: str, threads: int) -> None:
    """In each process. What a new start cannot mend ends the work for good: an error of ours, a full disk, too little
    memory. It is left in ``failure``, and this process fails, because the others wait for it inside torch, where only
    their end ends that. Started anew, each finds it told and returns.
    """
    if failure.is_file():
        return
    torch.set_num_threads(threads)
    has_group = distributed.is_initialized()
    if not has_group:
        _join(backend)
    try:
        with freed_memory_kept():
            work()
    except (GraftlineError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        write_text(failure, json.dumps(_kept(error)))
        raise RuntimeError(f"told in {failure}") from error
    if not has_group:
        distributed.destroy_process_group()


def _kept(error: Exception) -> dict[str, Any]:
    """For :func:`_raise_told`, as JSON."""
    if isinstance(error, GraftlineError):
        return errors.kept(error)
    if isinstance(error, OSError):
        path = None if error.filename is None else str(error.filename)
        return {"kind": "OSError", "errno": error.errno, "text": error.strerror or str(error), "path": path}
    return {"kind": "MemoryError" if isinstance(error, MemoryError) else "OutOfMemoryError", "text": str(error)}


def _raise_told(failure: Path) -> None:
    """Raise here what a process has left there, if one did."""
    if not failure.is_file():
        return
    told = json.loads(failure.read_text(encoding="utf-8"))
    match told["kind"]:
        case "OSError":
            raise OSError(told["text"]) if told["errno"] is None else OSError(told["errno"], told["text"], told["path"])
        case "MemoryError":
            raise MemoryError(told["text"])
        case "OutOfMemoryError":
            raise torch.OutOfMemoryError(told["text"])
    raise errors.restored(told)


def _join(backend: str) -> None:
    """By what torchrun has put into the environment. Its store outlives an attempt, and in it stand the addresses of
    processes that are dead: each attempt has its own names there, or the next would wait for them.
    """
    store, rank, size = next(distributed.rendezvous("env://"))
    own = distributed.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    distributed.init_process_group(backend, store=own, rank=rank, world_size=size)
