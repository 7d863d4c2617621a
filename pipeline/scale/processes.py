"""The processes that train one network together, as each of them sees the others."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed, nn

from pipeline.core.seeding import derive
from pipeline.scale import batch_norm

Value = TypeVar("Value")


class Rows(NamedTuple):
    """One process's rows ``start`` to ``stop`` of a batch of ``images``."""

    start: int
    stop: int
    images: int

    @classmethod
    def all(cls, images: int) -> Rows:
        return cls(0, images, images)

    @property
    def share(self) -> float:
        return (self.stop - self.start) / self.images

    def of(self, values: Tensor) -> Tensor:
        """This process's part of a value per row."""
        return values[self.start : self.stop]


class Processes(NamedTuple):
    """``size`` of them, of which this is number ``rank``; alone by default."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Processes:
        """The process group of torch that this process is in."""
        if not distributed.is_available() or not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Does this process write and speak for all?"""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    @property
    def on_this_machine(self) -> int:
        """How many of them share its memory."""
        return 1 if self.is_alone else int(os.environ["LOCAL_WORLD_SIZE"])

    def device(self, requested: str) -> str:
        """The device of this process: of several GPUs, that of its number on its machine."""
        if self.is_alone or requested not in ("auto", "cuda") or not torch.cuda.is_available():
            return requested
        number = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(number)
        return f"cuda:{number}"

    def seed(self, seed: int) -> int:
        """For draws that each process makes for itself (dropout); the first one's are those of a process alone."""
        return seed if self.is_first else derive(seed, "process", self.rank)

    def rows(self, images: int) -> Rows:
        """This process's rows of a batch: as many as the others', or one more."""
        return Rows(self.rank * images // self.size, (self.rank + 1) * images // self.size, images)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them; on the values' own device, whichever one carries the sum."""
        if self.is_alone:
            return values
        carried = values.cuda() if distributed.get_backend() == "nccl" else values
        distributed.all_reduce(carried)
        return carried.to(values.device)

    def of_first(self, value: Value) -> Value:
        """The first process's value, in each of them."""
        if self.is_alone:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def joined(self, network: nn.Module) -> nn.Module:
        """``network``, whose gradients are now the mean over all processes."""
        if self.is_alone:
            return network
        joined = nn.parallel.DistributedDataParallel(network)
        # Torch compares a hook's annotations with its types, and ours are texts here; a lambda has none.
        joined.register_comm_hook(self, lambda processes, bucket: _each_by_itself(processes, bucket))
        return joined

    def share_statistics(self, network: nn.Module) -> None:
        """From now on BatchNorm sees the batches of all processes as one."""
        if not self.is_alone:
            batch_norm.share(network)


def _each_by_itself(processes: Processes, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """The mean of each parameter's gradient, summed apart from the others in its bucket.

    Torch lays buckets out anew after the first step, and a sum over three processes or more is rounded by a number's
    place in what is summed: a resumed run, which has a first step of its own, would end with other bits.
    """
    whole = bucket.buffer().div_(processes.size)
    sums = [distributed.all_reduce(gradient, async_op=True).get_future() for gradient in bucket.gradients()]

    def mean(done: torch.futures.Future[list[Any]]) -> Tensor:
        done.value()  # raises what went wrong with any, which would leave this process with its own gradient
        return whole

    return torch.futures.collect_all(sums).then(mean)
