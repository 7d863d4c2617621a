"""The only training loop. It runs phases, keeps frozen weights frozen, and picks up where a kill left it.

Reproducible: every epoch seeds its own shuffle, augmentation and dropout by name, so that neither a resume nor an
added draw elsewhere changes what follows.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.context import Context
from pipeline.core.device import choose, memory_format
from pipeline.core.errors import TrainingError
from pipeline.core.files import replacing
from pipeline.core.progress import Meter
from pipeline.core.seeding import derive
from pipeline.data.loading import ImageBank
from pipeline.data.transforms import plain_view
from pipeline.models.network import Network, State
from pipeline.training.augmentation import random_view
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase
from pipeline.training.record import Epoch, Group, table

CHECKPOINT_EVERY_S = float(os.environ.get("GRAFTLINE_CHECKPOINT_EVERY_S", "5"))
"""A checkpoint is written at an epoch's end, but not more often than this. It cannot change the result."""

DIVERGED = 0.1
"""Training diverged if the epoch that a phase ends on has a mean loss this much (nats) above its first: a head that
already fits wavers by less."""

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class LabelledImages(NamedTuple):
    """Images and their class numbers, int64 of shape (n,)."""

    bank: ImageBank
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Outcome(NamedTuple):
    """What happened; the network was changed in place."""

    history: list[Epoch]
    groups: list[Group]
    kept: dict[str, int]
    """The epoch whose weights each phase ended on, 0 for those it began with; empty without validation data."""
    guards: dict[str, bool]
    """What was measured of the promises that training makes; see :func:`_guards`."""


class Score(NamedTuple):
    """Mean cross-entropy and accuracy."""

    loss: float
    accuracy: float


@dataclass
class _State:
    """Everything a resume needs."""

    phase: int = 0
    epoch: int = 0
    """Epochs done in this phase."""
    best_loss: float = math.inf
    best: State | None = None
    waited: int = 0
    """Epochs since the best."""
    optimizer: dict[str, Any] | None = None
    network: State | None = None
    history: list[Epoch] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    """Frozen weights and statistics that were found changed, in any phase so far."""


def fit(
    network: Network,
    phases: Sequence[Phase],
    train: LabelledImages,
    val: LabelledImages | None,
    options: EngineOptions,
    context: Context,
    *,
    name: str = "training",
) -> Outcome:
    """Train ``network`` in place, phase by phase; equal arguments give equal weights.

    ``name`` tells apart several calls in one stage (their checkpoints and random streams).

    Raises:
        TrainingError: a phase does not name every group, or the training loss is not finite.
    """
    for phase in phases:
        _check_coverage(network, phase)
    groups = [row for phase in phases for row in describe(network, phase)]
    print(table(groups), flush=True)
    loop = _Loop(network, phases, train, val, options, context, name)
    loop.run()
    state = loop.state
    return Outcome(state.history, groups, state.kept, _guards(state, groups))


def _guards(state: _State, groups: list[Group]) -> dict[str, bool]:
    """Promises, and whether they were kept; a gate judges them. (A training loss that is not finite ends training.)"""
    guards = {
        "training_loss_did_not_diverge": not any(_diverged(state, name) for name in {row.phase for row in groups}),
        "validation_losses_finite": all(math.isfinite(entry.val_loss or 0.0) for entry in state.history),
    }
    if any(not group.trainable for group in groups):
        guards["frozen_weights_unchanged"] = not state.moved
    return guards


def _diverged(state: _State, phase: str) -> bool:
    """Up to the epoch that was kept: where validation went back to an earlier one, what came after it did no harm."""
    losses = [entry.train_loss for entry in state.history if entry.phase == phase]
    losses = losses[: state.kept.get(phase, len(losses))]
    return bool(losses) and losses[-1] > losses[0] + DIVERGED


def _check_coverage(network: Network, phase: Phase) -> None:
    missing = [group for group in network.groups if group not in phase.learning_rates]
    unknown = [group for group in phase.learning_rates if group not in network.groups]
    if missing or unknown:
        raise TrainingError(
            f"Phase '{phase.name}' must name every parameter group once; it leaves out {missing or 'none'} "
            f"and names {unknown or 'none'} that {network.row.name} does not have."
        )


def describe(network: Network, phase: Phase) -> list[Group]:
    """The phase's parameter groups as rows of a table."""
    return [_describe(network, phase, group) for group in network.groups]


def _describe(network: Network, phase: Phase, group: str) -> Group:
    rate = phase.learning_rates[group]
    has_batch_norm = any(isinstance(module, BATCH_NORM) for module in network.modules_of(group))
    moves = rate is not None and phase.batch_norm == "train"
    return Group(
        phase=phase.name,
        group=group,
        parameters=sum(value.numel() for value in network.parameters_of(group).values()),
        trainable=rate is not None,
        learning_rate=rate,
        batch_norm="none" if not has_batch_norm else "updated" if moves else "fixed",
    )


class _Loop:
    """One call of :func:`fit`."""

    def __init__(
        self,
        network: Network,
        phases: Sequence[Phase],
        train: LabelledImages,
        val: LabelledImages | None,
        options: EngineOptions,
        context: Context,
        name: str,
    ) -> None:
        self.network, self.phases, self.train, self.val = network, phases, train, val
        self.options, self.seed, self.name = options, context.seed, name
        self.device = choose(context.device)
        self.preprocessing = train.bank.preprocessing
        self.checkpoints = _Checkpoints(context.scratch, name, self.device)
        self.state = self.checkpoints.load() or _State()
        self.curves = _Curves(context.scratch, self.state.history)
        self.batch_size = min(options.batch_size, len(train))
        self.steps_per_epoch = max(math.ceil(len(train) / self.batch_size), options.min_steps_per_epoch)
        images = sum(phase.epochs for phase in phases) * self.steps_per_epoch * self.batch_size
        self.meter = Meter(what=name, unit="images", total=images)

    def run(self) -> None:
        self.network.to(self.device).to(memory_format=memory_format(self.device))
        if self.state.network is not None:
            self.network.load_state_dict(self.state.network)
        for number in range(self.state.phase, len(self.phases)):
            if number != self.state.phase:
                done = self.state
                self.state = _State(phase=number, history=done.history, kept=done.kept, moved=done.moved)
            self._run_phase(self.phases[number])
        self.meter.close()
        self.network.to("cpu").to(memory_format=torch.contiguous_format).eval()

    def _run_phase(self, phase: Phase) -> None:
        state, frozen = self.state, self._frozen(phase)
        optimizer = self._optimizer(phase)
        if state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)
        if state.best is None:
            self._keep_if_best(phase, self._score())
        while state.epoch < phase.epochs and not _is_out_of_patience(phase, state):
            self._epoch(phase, optimizer)
            self._compare(frozen)
            self.checkpoints.save(state, self.network, optimizer)
        if state.best is not None:
            self.network.load_state_dict(state.best)

    def _epoch(self, phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        state = self.state
        set_modes(self.network, phase)
        seed = derive(self.seed, self.name, phase.name, "epoch", state.epoch)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        losses = []
        for step, rows in enumerate(self._batches(generator)):
            self._set_rates(optimizer, phase, state.epoch * self.steps_per_epoch + step)
            losses.append(self._step(phase, optimizer, rows, generator))
            self.meter.advance(len(rows))
        self._finish_epoch(phase, optimizer, torch.stack(losses).mean().item())

    def _batches(self, generator: torch.Generator) -> Iterator[np.ndarray]:
        """Row numbers, always whole batches: passes over the set follow each other until the epoch is full."""
        wanted = self.steps_per_epoch * self.batch_size
        passes = math.ceil(wanted / len(self.train))
        rows = torch.cat([torch.randperm(len(self.train), generator=generator) for _ in range(passes)])
        yield from rows[:wanted].view(self.steps_per_epoch, self.batch_size).numpy()

    def _step(
        self, phase: Phase, optimizer: torch.optim.Optimizer, rows: np.ndarray, generator: torch.Generator
    ) -> Tensor:
        squares = self.train.bank.fetch(rows).to(self.device)
        labels = torch.from_numpy(self.train.labels[rows]).to(self.device)
        with self._autocast():
            images = random_view(squares, self.preprocessing, self.options.augment, generator)
            images = images.contiguous(memory_format=memory_format(self.device))
            loss = batch_loss(phase, self.network, images, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip_norm)
        optimizer.step()
        return loss.detach()

    def _finish_epoch(self, phase: Phase, optimizer: torch.optim.Optimizer, train_loss: float) -> None:
        state = self.state
        state.epoch += 1
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"The training loss became {train_loss} in phase '{phase.name}', epoch {state.epoch}. "
                "Usually a learning rate is too high: lower the strategy's rates tenfold, or set clip_norm to 1."
            )
        score = self._score()
        state.waited += 1
        self._keep_if_best(phase, score)
        entry = Epoch(
            phase=phase.name,
            epoch=state.epoch,
            train_loss=train_loss,
            val_loss=score and score.loss,
            val_accuracy=score and score.accuracy,
            learning_rate=max(group["lr"] for group in optimizer.param_groups),
        )
        state.history.append(entry)
        self.curves.append(entry)

    def _score(self) -> Score | None:
        if not self.val:
            return None
        return score(self.network, self.val, self.device, batch_size=4 * self.options.batch_size)

    def _keep_if_best(self, phase: Phase, found: Score | None) -> None:
        state = self.state
        if found is not None and found.loss < state.best_loss:
            state.best_loss, state.best, state.waited = found.loss, _copy(self.network.state_dict()), 0
            state.kept[phase.name] = state.epoch

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        """One optimizer group per trainable parameter group, and one without decay for its biases and norms."""
        groups = []
        for group, rate in phase.learning_rates.items():
            values = list(self.network.parameters_of(group).values())
            for value in values:
                value.requires_grad_(rate is not None)
            if rate is None:
                continue
            kernels = [value for value in values if value.ndim > 1]
            others = [value for value in values if value.ndim <= 1]
            for members, decay in ((kernels, phase.weight_decay), (others, 0.0)):
                if members:
                    groups.append({"params": members, "lr": rate, "peak": rate, "weight_decay": decay})
        if self.options.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=0.9)
        return torch.optim.AdamW(groups)

    def _set_rates(self, optimizer: torch.optim.Optimizer, phase: Phase, step: int) -> None:
        factor = schedule(step, phase.epochs * self.steps_per_epoch, phase.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def _autocast(self) -> torch.autocast:
        wanted = self.options.precision
        if wanted == "auto":
            capable = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
            wanted = "bfloat16" if capable else "float32"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted == "bfloat16")

    def _frozen(self, phase: Phase) -> State:
        """Copies of everything that this phase must not move, statistics included."""
        frozen = [group for group, rate in phase.learning_rates.items() if rate is None]
        return _copy({name: value for group in frozen for name, value in self.network.state_of(group).items()})

    def _compare(self, frozen: State) -> None:
        """Note what moved that should not have; before each checkpoint, so that a resume compares from clean ground."""
        now = self.network.state_dict()
        moved = [name for name, value in frozen.items() if not torch.equal(value, now[name])]
        self.state.moved += [name for name in moved if name not in self.state.moved]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at ``step`` of ``steps``: linear rise over the share ``warmup``, then a cosine to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def set_modes(network: Network, phase: Phase) -> None:
    """Training mode for trainable groups, eval mode for frozen ones and for BatchNorm whose statistics stand still."""
    network.train()
    for group, rate in phase.learning_rates.items():
        for module in network.modules_of(group):
            fixed = isinstance(module, BATCH_NORM) and phase.batch_norm == "eval"
            module.train(rate is not None and not fixed)


@torch.no_grad()
def score(network: Network, images: LabelledImages, device: torch.device, *, batch_size: int) -> Score:
    """Mean cross-entropy and accuracy on unaugmented views; leaves the network in eval mode."""
    network.eval()
    losses, hits = 0.0, 0
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)))
        labels = torch.from_numpy(images.labels[rows]).to(device)
        logits = network(plain_view(images.bank.fetch(rows).to(device), images.bank.preprocessing))
        losses += functional.cross_entropy(logits, labels, reduction="sum").item()
        hits += int((logits.argmax(dim=1) == labels).sum())
    return Score(losses / len(images), hits / len(images))


def batch_loss(phase: Phase, network: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of normalised ``images`` [B, 3, S, S] with class numbers ``labels`` [B], in nats."""
    return functional.cross_entropy(network(images), labels, label_smoothing=phase.label_smoothing)


def _is_out_of_patience(phase: Phase, state: _State) -> bool:
    return phase.patience is not None and state.best is not None and state.waited >= phase.patience


def _copy(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


class _Checkpoints:
    """The loop's state on disk, so that a killed run goes on; without a folder, nothing is kept.

    A checkpoint of another device, thread count or torch build is left alone: these round differently, and a network
    half from each would be equal to no undisturbed one.
    """

    def __init__(self, folder: Path | None, name: str, device: torch.device) -> None:
        self.path = folder and folder / f"{name}.checkpoint.pt"
        self._made_by = f"{device.type}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
        self._last_s = time.monotonic()

    def load(self) -> _State | None:
        if self.path is None or not self.path.is_file():
            return None
        kept = torch.load(self.path, map_location="cpu", weights_only=True)
        if (made_by := kept.pop("made_by")) != self._made_by:
            print(f"  starting anew: the checkpoint was made by {made_by}; this is {self._made_by}", flush=True)
            return None
        state = _State(**{**kept, "history": [Epoch(**entry) for entry in kept["history"]]})
        print(f"  going on from a checkpoint, {len(state.history)} epoch(s) done", flush=True)
        return state

    def save(self, state: _State, network: Network, optimizer: torch.optim.Optimizer) -> None:
        if self.path is None or time.monotonic() - self._last_s < CHECKPOINT_EVERY_S:
            return
        kept = {name: getattr(state, name) for name in _State.__dataclass_fields__}
        kept |= {"history": [entry.model_dump() for entry in state.history]}
        kept |= {"made_by": self._made_by, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
        with replacing(self.path) as fresh:
            torch.save(kept, fresh)
        self._last_s = time.monotonic()


class _Curves:
    """``live.jsonl``: one line per epoch as it ends, for whoever watches."""

    def __init__(self, folder: Path | None, history: list[Epoch]) -> None:
        self.path = folder and folder / "live.jsonl"
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(map(_line, history)), encoding="utf-8")

    def append(self, entry: Epoch) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))


def _line(entry: Epoch) -> str:
    return entry.model_dump_json() + "\n"
