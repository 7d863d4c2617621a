"""Work that several processes share, and that dies on the way; here, because each process has to import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, distributed

from pipeline.core.context import Context
from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore
from pipeline.data.labels import LabelSpace
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.features.engines import TorchEngine
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.network import Network, build_backbone
from pipeline.scale.processes import Processes, _each_by_itself
from pipeline.training import engine
from pipeline.training.engine import Work
from pipeline.training.objectives import Batch, CrossEntropy, Images
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase


def die_once(marker: Path | None) -> None:
    """SIGKILL to this process, unless one has left the marker and died; each time without a marker."""
    try:
        if marker is not None:
            marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DyingEngine(TorchEngine):
    """Computes some batches, then its process is killed; the next one's goes on."""

    def __init__(self, weights: BackboneWeights, marker: Path | None, batches: int) -> None:
        super().__init__(weights.build(), torch.device("cpu"))
        self._marker, self._left = marker, batches

    def __call__(self, images: Tensor) -> np.ndarray:
        self._left -= 1
        if self._left < 0:
            die_once(self._marker)
        return super().__call__(images)


class DyingLoss(CrossEntropy):
    """Process ``victim`` (-1: the last) is killed in the second phase, once ``progress`` is behind it."""

    def __init__(self, marker: Path | None, progress: float, victim: int = -1) -> None:
        super().__init__()
        self._marker, self._progress, self._victim = marker, progress, victim

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        processes = Processes.current()
        is_victim = processes.rank == self._victim % processes.size
        if is_victim and phase.name == "all" and batch.progress >= self._progress:
            die_once(self._marker)
        return super().loss(network, batch, phase)


class RefusingLoss(CrossEntropy):
    """Finds fault with what the user gave, in one process of several; the others wait for its gradients.

    In the second phase, when what the first has joined still holds on to torch's group.
    """

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        if Processes.current().rank == 1 and phase.name == "all":
            raise DataError(expected="a picture", found="none", where="here", remedy="Paint one.")
        return super().loss(network, batch, phase)


def toy_images(manifest: Manifest, workspace: Path, labels: LabelSpace) -> Images:
    bank = ImageBank(manifest, ImageStore(workspace, 1), a_network().row.preprocessing)
    return Images(bank, labels.indices(manifest.frame["label"]))


def a_network() -> Network:
    return Network("small_cnn", build_backbone("small_cnn"), 3)


def toy_work(domains: Any, context: Context, *, epochs: int = 2, objective: Any = None, **phase: Any) -> Work:
    """Head first, then all of a small network, by gradient descent, in batches of 15, which two cannot halve."""
    network = a_network()
    train, val = (
        toy_images(domains.source.split(split), domains.workspace, domains.labels) for split in ("train", "val")
    )
    rates = dict.fromkeys(network.groups, 1e-2)
    phases = [
        Phase("head", 1, {**dict.fromkeys(network.row.blocks), "head": 1e-2}, keep="last"),
        Phase("all", epochs, rates, **{"keep": "last", **phase}),
    ]
    options = EngineOptions(batch_size=15, min_steps_per_epoch=3, optimizer="sgd")
    return Work(network, phases, train, val, options, context, objective or CrossEntropy(), "training")


def train_each(works: dict[str, Work], folder: Path) -> None:
    """In each process: one after the other; what became of the networks, and of their losses, is left in ``folder``."""
    processes = Processes.current()
    made = {}
    for name, work in works.items():
        own = work._replace(context=replace(work.context, scale=None))
        outcome = engine.run(own, [])
        losses = [value for entry in outcome.history for value in (entry.train_loss, entry.val_loss)]
        made[name] = {"network": dict(own.network.state_dict()), "losses": losses, "processes": outcome.processes}
    torch.save(made, folder / f"{processes.rank}.pt")


class _Bucket(NamedTuple):
    """As DDP hands gradients to its hook."""

    values: Tensor

    def buffer(self) -> Tensor:
        return self.values

    def gradients(self) -> list[Tensor]:
        return [self.values]


def lost_peer(said: Path) -> None:
    """In two processes: one leaves, the other asks for the sum of gradients and writes down what it gets."""
    processes = Processes.current()
    distributed.barrier()
    if not processes.is_first:
        return
    try:
        text = f"a sum: {_each_by_itself(processes, cast(Any, _Bucket(torch.ones(2)))).wait()}"
    except RuntimeError as error:
        text = f"{type(error).__name__}: {error}"
    said.write_text(text, encoding="utf-8")


def wait_for_each_other(folder: Path) -> None:
    """In two processes: the first waits for the other's numbers, inside torch; the other never sends any."""
    processes = Processes.current()
    distributed.barrier()
    (folder / f"{processes.rank} is there").touch()
    if processes.is_first:
        distributed.barrier()
    time.sleep(600)
