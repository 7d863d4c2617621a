"""On what torch computes: the device, and how many threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.core import cores
from pipeline.core.allocation import freed_memory_kept
from pipeline.core.errors import ParamsError
from pipeline.core.memory import available_bytes
from pipeline.core.seeding import seed_torch

if TYPE_CHECKING:
    import torch

Threads = Literal["auto"] | Annotated[int, Field(gt=0)]
"""CPU threads for torch; ``auto`` as :func:`threads_for` says."""

SMALL_IMAGE_PX = 64
"""Up to this size one thread is the fast choice: the work per layer is too small to share."""

BYTES_PER_PIXEL_BYTE = 48
"""Memory of a batch at work, by that of its pixels in float32: it was 33 with mobilenet_v2 and 18 with resnet18."""


def choose(requested: str = "auto") -> torch.device:
    """``auto``: CUDA where present, else Apple's MPS, else the CPU.

    Raises:
        ParamsError: a device by name that this machine does not have.
    """
    import torch

    if requested == "auto":
        return torch.device(_best())
    try:
        torch.empty(1, device=requested)
        return torch.device(requested)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ParamsError(
            expected="a device that torch can use here: auto, cpu, cuda, cuda:0, mps, …",
            found=f"'{requested}' ({str(error).splitlines()[0]})",
            where="runtime.device in params.yaml",
            remedy="Set it to 'auto', or install a torch build for that device.",
        ) from error


def _best() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def threads_for(requested: Threads, image_size_px: int) -> int:
    """``auto``: one thread for small images, else one per core (or ``OMP_NUM_THREADS``, where it is smaller).

    The count is a rule and not a measurement, because it decides the order of floating-point sums: a count measured
    anew in each run would make equal inputs give unequal bytes. The rule follows measurements on two busy cores: for
    small_cnn at 32 px a second thread makes a step slower (47 against 27 ms, and up to 13 times on bad days); for
    resnet18 at 224 px it pays once the cores are free.
    """
    if requested != "auto":
        return requested
    if image_size_px <= SMALL_IMAGE_PX:
        return 1
    assigned = cores.assigned()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(assigned, int(limit)) if limit.isdigit() and int(limit) > 0 else assigned


def batches_at_once(device: torch.device, batch_size: int, side_px: int) -> int:
    """How many batches of squares to compute side by side, each on one thread of torch's: one where it is not a CPU.

    Threads that share a batch wait for one another after every layer, at full speed, on cores that could prepare the
    next. Never more than there is memory for.
    """
    import torch

    if device.type != "cpu":
        return 1
    batch_bytes = BYTES_PER_PIXEL_BYTE * batch_size * 3 * side_px**2 * 4
    return max(1, min(torch.get_num_threads(), available_bytes() // batch_bytes))


def memory_format(device: torch.device) -> torch.memory_format:
    """How images lie in memory: channels last is 20-40 % faster on CPUs and tensor cores; MPS wants the plain order."""
    import torch

    return torch.contiguous_format if device.type == "mps" else torch.channels_last


@contextlib.contextmanager
def computing(requested: str, seed: int, threads: int) -> Iterator[torch.device]:
    """Seed torch, fix its thread count and keep its memory for the block, and yield the device."""
    seed_torch(seed)
    with _torch_threads(threads), freed_memory_kept():
        yield choose(requested)


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Keep torch on one thread: its threads spin, and beside decoding and ONNX Runtime two were five times slower."""
    return _torch_threads(1)


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """So many for the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
