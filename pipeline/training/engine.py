"""The only training loop. It runs phases, keeps frozen weights frozen, and picks up where a kill left it.

Several processes may run it together, each on its rows of every batch (:mod:`pipeline.training.sharing`): draws,
gradients, statistics and decisions are then those of the whole batch.

Reproducible: every epoch seeds its own shuffle, augmentation and dropout by name, so that neither a resume nor an
added draw elsewhere changes what follows.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.context import Context
from pipeline.core.device import choose, memory_format
from pipeline.core.errors import BudgetError, TrainingError
from pipeline.core.files import replacing
from pipeline.core.progress import Meter
from pipeline.core.seeding import derive
from pipeline.data.transforms import plain_view
from pipeline.models.network import Network, State
from pipeline.scale.processes import Processes
from pipeline.training.augmentation import random_view, resolved, strong_view
from pipeline.training.frozen_prefix import FrozenPrefix, KeptOutputs
from pipeline.training.objectives import Batch, CrossEntropy, Drawn, Images, Objective, Stream, View
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase
from pipeline.training.record import Epoch, Group, table

CHECKPOINT_EVERY_S = float(os.environ.get("GRAFTLINE_CHECKPOINT_EVERY_S", "5"))
"""A checkpoint is written at an epoch's end, but not more often than this. It cannot change the result."""

CHECKPOINT_SHARE = 0.05
"""Of the time until the next checkpoint is at most what this one took: those of a large network on a fast card are
written less often."""

DIVERGED = 0.1
"""Training diverged if the epoch that a phase ends on has a mean loss this much (nats) above its first: a head that
already fits wavers by less."""

ALONE = Processes()

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class Outcome(NamedTuple):
    """What happened; the network was changed in place."""

    history: list[Epoch]
    groups: list[Group]
    kept: dict[str, int]
    """The epoch whose weights each phase ended on, 0 for those it began with; empty without validation data."""
    guards: dict[str, bool]
    """What was measured of the promises that training makes; see :func:`_guards`."""
    breaches: list[str]
    """Why epochs were taken back, one sentence each."""
    processes: int = 1
    """How many shared the steps."""


class Score(NamedTuple):
    """Mean cross-entropy and accuracy."""

    loss: float
    accuracy: float


class _Fetched(NamedTuple):
    """One step's images of a stream, before augmentation."""

    stream: Stream
    rows: np.ndarray
    squares: Tensor


class _Before(NamedTuple):
    """Copies from before an epoch, to go back to."""

    network: State
    objective: State


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
    objective: State | None = None
    rate_factor: float = 1.0
    breaches: list[str] = field(default_factory=list)
    start: State | None = None
    """Weights the phase began with, where L²-SP holds on to them."""


def fit(
    network: Network,
    phases: Sequence[Phase],
    train: Images,
    val: Images | None,
    options: EngineOptions,
    context: Context,
    *,
    objective: Objective | None = None,
    name: str = "training",
) -> Outcome:
    """Train ``network`` in place, phase by phase; equal arguments give equal weights.

    ``context.scale`` may have it done by several processes, which end within rounding of what one does.
    ``objective`` is what steps minimise, cross-entropy if not given; its own parameters are trained along. Where it
    refuses an epoch, the network goes back to the epoch before and rates are halved; the second time the phase ends.
    ``name`` tells apart several calls in one stage (their checkpoints and random streams).

    Raises:
        TrainingError: a phase does not name every group, or the training loss is not finite.
    """
    for phase in phases:
        _check_coverage(network, phase)
    groups = [row for phase in phases for row in describe(network, phase)]
    print(table(groups), flush=True)
    work = Work(network, phases, train, val, options, context, objective or CrossEntropy(), name)
    if context.scale is None or context.scale.workers == 1:
        return run(work, groups)
    from pipeline.training import sharing

    return sharing.run(work, context.scale, groups)


def run(work: Work, groups: list[Group]) -> Outcome:
    """The loop, in this process or as its part of a group."""
    loop = _Loop(*work)
    loop.run()
    state = loop.state
    return Outcome(state.history, groups, state.kept, _guards(state, groups), state.breaches, loop.processes.size)


def _guards(state: _State, groups: list[Group]) -> dict[str, bool]:
    """Promises, and whether they were kept; a gate judges them. (A training loss that is not finite ends training.)"""
    guards = {
        "training_loss_did_not_diverge": not any(_diverged(state, name) for name in {row.phase for row in groups}),
        "validation_losses_finite": all(math.isfinite(entry.val_loss or 0.0) for entry in state.history),
    }
    if state.moved or any(not group.trainable for group in groups):
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
    statistics_move = rate is not None and phase.batch_norm == "train"
    values, moving = network.parameters_of(group), trainable(network, phase, group)
    return Group(
        phase=phase.name,
        group=group,
        parameters=sum(values[name].numel() for name in moving or values),
        trainable=bool(moving),
        learning_rate=rate if moving else None,
        batch_norm="none" if not has_batch_norm else "updated" if statistics_move else "fixed",
    )


class Work(NamedTuple):
    """The arguments of one call of :func:`fit`."""

    network: Network
    phases: Sequence[Phase]
    train: Images
    val: Images | None
    options: EngineOptions
    context: Context
    objective: Objective
    name: str


class _Loop:
    """One call of :func:`fit`."""

    def __init__(
        self,
        network: Network,
        phases: Sequence[Phase],
        train: Images,
        val: Images | None,
        options: EngineOptions,
        context: Context,
        objective: Objective,
        name: str,
    ) -> None:
        self.network, self.phases, self.train, self.val, self.objective = network, phases, train, val, objective
        self.options, self.seed, self.name, self.deadline_s = options, context.seed, name, context.deadline_s
        self.processes = Processes.current()
        self.device = choose(context.device)
        self.preprocessing = train.bank.preprocessing
        self.checkpoints = _Checkpoints(context.scratch, name, self.device, self.processes)
        self.state = self.processes.of_first(self.checkpoints.load()) or _State()
        self.curves = _Curves(context.scratch, name, self.state.history)
        self.batch_size = min(options.batch_size, len(train))
        self.rows = self.processes.rows(self.batch_size)
        self.steps_per_epoch = max(math.ceil(len(train) / self.batch_size), options.min_steps_per_epoch)
        images = sum(phase.epochs for phase in phases) * self.steps_per_epoch * self.batch_size
        self.meter = Meter(what=name, unit="images", total=images)

    def run(self) -> None:
        with contextlib.closing(self.meter):
            self._prepare()
            for number in range(self.state.phase, len(self.phases)):
                if number != self.state.phase:
                    done = self.state
                    self.state = _State(
                        phase=number, history=done.history, kept=done.kept, moved=done.moved, breaches=done.breaches
                    )
                self._run_phase(self.phases[number])
        self.network.to("cpu").to(memory_format=torch.contiguous_format).eval()

    def _prepare(self) -> None:
        """Bring everything onto the device, as the checkpoint has it if there was one."""
        self.network.to(self.device).to(memory_format=memory_format(self.device))
        self.processes.share_statistics(self.network)
        self.objective.to(self.device)
        if self.state.network is not None:
            self.network.load_state_dict(self.state.network)
        if self.state.objective is not None:
            self.objective.load_state_dict(self.state.objective)
        if self.state.start is not None:
            self.state.start = {name: value.to(self.device) for name, value in self.state.start.items()}

    def _run_phase(self, phase: Phase) -> None:
        state, frozen = self.state, self._frozen(phase)
        self.network.zero_grad(set_to_none=True)
        self.objective.zero_grad(set_to_none=True)
        optimizer = self._optimizer(phase)
        self._place_start(phase)
        if state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)
        if state.start is None and phase.l2_sp:
            state.start = _copy(self.network.backbone.state_dict())
        if state.best is None and phase.keep == "best":
            self._keep_if_best(phase, self._score())
        while self._goes_on(phase):
            self._keep_to_the_deadline(phase)
            self._epoch(phase, optimizer)
            self._compare(frozen)
            self.checkpoints.save(state, self.network, self.objective, optimizer)
        if state.best is not None:
            self.network.load_state_dict(state.best)

    def _place_start(self, phase: Phase) -> None:
        """Steps and scores begin with the images or, where the outputs of frozen blocks can be kept, behind these."""
        self.main, self.judged = Stream(self.train), self.val
        self.joined, self.scored = cast(Network, self.processes.joined(self.network)), cast(nn.Module, self.network)
        if not (self.processes.is_alone and self._goes_on(phase)):
            return
        self._keep_to_the_deadline(phase)
        prefix = FrozenPrefix.of(self.network, phase, self.preprocessing.size_px)
        if prefix is None:
            return
        left_mb = float(self.options.memory_mb)
        if self._images_look_the_same():
            with self._autocast():
                outputs = self._outputs(prefix, self.train, left_mb)
            if outputs is not None:
                self.main = Stream(outputs.in_place_of(self.train), ("kept",))
                self.joined = cast(Network, prefix.suffix)  # the objective does nothing but call it
                left_mb -= outputs.megabytes
        if self.val and (outputs := self._outputs(prefix, self.val, left_mb)) is not None:
            self.judged, self.scored = outputs.in_place_of(self.val), prefix.suffix

    def _outputs(self, prefix: FrozenPrefix, images: Images, budget_mb: float) -> KeptOutputs | None:
        outputs = prefix.kept(images, self.device, batch_size=4 * self.options.batch_size, budget_mb=budget_mb)
        if outputs is not None:
            print(f"  outputs of frozen blocks kept: {len(images):,} images, {outputs.megabytes:,.0f} MB", flush=True)
        return outputs

    def _images_look_the_same(self) -> bool:
        """Is all that a step needs of an image what the network makes of its plain view?"""
        only_logits = self.objective.needs_only_logits and not self.objective.streams
        return only_logits and resolved(self.options.augment, self.preprocessing) == "none"

    def _goes_on(self, phase: Phase) -> bool:
        state = self.state
        return state.epoch < phase.epochs and not _is_out_of_patience(phase, state) and not _is_refused(state)

    def _keep_to_the_deadline(self, phase: Phase) -> None:
        if self.deadline_s is not None and self.processes.of_first(time.time() > self.deadline_s):
            done = f"{self.state.epoch} of {phase.epochs} epochs of phase '{phase.name}'"
            raise BudgetError(f"The budget was spent after {done}.")

    def _epoch(self, phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        state = self.state
        before = _Before(_copy(self.network.state_dict()), _copy(self.objective.state_dict()))
        seed = derive(self.seed, self.name, phase.name, "epoch", state.epoch)
        torch.manual_seed(self.processes.seed(seed))
        generator = torch.Generator().manual_seed(seed)
        self.network.eval()
        self.objective.begin_epoch(self.network, self.device)
        set_modes(self.network, phase)
        self.objective.train()
        drawn = {
            name: _draws(len(stream.images), self._size_of(stream), self.steps_per_epoch, generator)
            for name, stream in self.objective.streams.items()
        }
        terms: list[dict[str, Tensor]] = []
        rows_of_steps = _draws(len(self.train), self.batch_size, self.steps_per_epoch, generator)
        fetched = self._fetched(self.main, rows_of_steps[:, self.rows.start : self.rows.stop])
        fetched_of_streams = {name: self._fetched(self.objective.streams[name], drawn[name]) for name in drawn}
        for step, main in enumerate(fetched):
            done = state.epoch * self.steps_per_epoch + step
            self._set_rates(optimizer, phase, done)
            streams = {name: next(others) for name, others in fetched_of_streams.items()}
            progress = done / (phase.epochs * self.steps_per_epoch)
            terms.append(self._step(phase, optimizer, main, streams, progress, generator))
            if self.processes.is_first:
                self.meter.advance(self.batch_size)
        means = {name: self._mean_of([term[name] for term in terms]) for name in terms[0]}
        self._finish_epoch(phase, optimizer, means, before)

    def _mean_of(self, values: list[Tensor]) -> float:
        """Of the steps of an epoch, each the mean over this process's rows."""
        mean = torch.stack(values).mean()
        return self.processes.summed(mean * self.rows.share).item()

    def _size_of(self, stream: Stream) -> int:
        return stream.batch_size or self.options.batch_size

    def _step(
        self,
        phase: Phase,
        optimizer: torch.optim.Optimizer,
        fetched: _Fetched,
        fetched_of_streams: dict[str, _Fetched],
        progress: float,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        with self._autocast():
            main = self._viewed(fetched, generator)
            streams = {name: self._viewed(others, generator) for name, others in fetched_of_streams.items()}
            batch = Batch(main.images, main.labels, main.rows, streams, progress)
            terms = self.objective.loss(self.joined, batch, phase)
        optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over the processes, each of which has the mean over its own rows.
        (terms["loss"] * (self.processes.size * self.rows.share)).backward()
        self._hold_to_start(phase)
        if self.options.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._trained_by(optimizer), self.options.clip_norm)
        optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    def _fetched(self, stream: Stream, rows_of_steps: np.ndarray) -> Iterator[_Fetched]:
        """The stream's images of each step."""
        steps = list(rows_of_steps)
        for rows, squares in zip(steps, stream.images.bank.batches(steps, self.device), strict=True):
            yield _Fetched(stream, rows, squares)

    def _viewed(self, fetched: _Fetched, generator: torch.Generator) -> Drawn:
        """One step's images in their stream's views."""
        stream, rows, squares = fetched
        views = tuple(self._view(squares, kind, generator) for kind in stream.views)
        labels = torch.from_numpy(stream.images.labels[rows]).to(self.device)
        return Drawn(views, labels, torch.from_numpy(rows).to(self.device))

    def _view(self, squares: Tensor, kind: View, generator: torch.Generator) -> Tensor:
        if kind == "kept":
            return squares
        if kind == "plain":
            view = plain_view(squares, self.preprocessing)
        else:
            make = random_view if kind == "random" else strong_view
            rows = None if self.processes.is_alone else self.rows
            view = make(squares, self.preprocessing, self.options.augment, generator, rows)
        return view.contiguous(memory_format=memory_format(self.device))

    def _hold_to_start(self, phase: Phase) -> None:
        """The gradient of L²-SP, added where a weight has one."""
        start = self.state.start
        if not phase.l2_sp or start is None:
            return
        for name, value in self.network.backbone.named_parameters():
            if value.grad is not None:
                value.grad.add_(value.detach() - start[name], alpha=phase.l2_sp)

    def _finish_epoch(
        self, phase: Phase, optimizer: torch.optim.Optimizer, terms: dict[str, float], before: _Before
    ) -> None:
        state = self.state
        state.epoch += 1
        train_loss = terms.pop("loss")
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"The training loss became {train_loss} in phase '{phase.name}', epoch {state.epoch}. "
                "Usually a learning rate is too high: lower the strategy's rates tenfold"
                f"{', or set train.clip_norm to 1' if self.options.clip_norm is None else ''}."
            )
        score = self._score()
        self.network.eval()
        judgement = self.objective.judge(self.network, self.device)
        state.waited += 1
        if phase.keep == "best" and judgement.breach is None:
            self._keep_if_best(phase, score)
        entry = Epoch(
            phase=phase.name,
            epoch=state.epoch,
            train_loss=train_loss,
            val_loss=score and score.loss,
            val_accuracy=score and score.accuracy,
            learning_rate=max(group["lr"] for group in optimizer.param_groups),
            terms=terms | judgement.values,
        )
        state.history.append(entry)
        self.curves.append(entry)
        if judgement.breach is not None:
            self._take_back(phase, optimizer, judgement.breach, before)

    def _take_back(self, phase: Phase, optimizer: torch.optim.Optimizer, breach: str, before: _Before) -> None:
        """Return to the epoch before, with half the rates and a fresh memory of gradients."""
        state = self.state
        self.network.load_state_dict(before.network)
        self.objective.load_state_dict(before.objective)
        optimizer.state.clear()
        state.rate_factor /= 2
        state.breaches.append(f"Epoch {state.epoch} of phase {phase.name} was taken back: {breach}")

    def _score(self) -> Score | None:
        if not self.judged:
            return None
        return score(
            self.scored, self.judged, self.device, batch_size=4 * self.options.batch_size, processes=self.processes
        )

    def _keep_if_best(self, phase: Phase, found: Score | None) -> None:
        state = self.state
        if found is not None and found.loss < state.best_loss:
            state.best_loss, state.best, state.waited = found.loss, _copy(self.network.state_dict()), 0
            state.kept[phase.name] = state.epoch

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        """One optimizer group per trainable parameter group, and one without decay for its biases and norms."""
        groups = []
        for group, rate in phase.learning_rates.items():
            values = self.network.parameters_of(group)
            moving = trainable(self.network, phase, group)
            for name, value in values.items():
                value.requires_grad_(name in moving)
            groups += _optimizer_groups([values[name] for name in moving], rate, phase.weight_decay)
        own = self.objective.learning_rate
        groups += _optimizer_groups(list(self.objective.parameters()), own, phase.weight_decay)
        if self.options.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=0.9)
        return torch.optim.AdamW(groups, fused=self.device.type == "cuda")

    def _trained_by(self, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
        """In the modules' order, which does not depend on rates: that of a norm's terms decides how it is rounded."""
        trained = {id(value) for group in optimizer.param_groups for value in group["params"]}
        everything = (*self.network.parameters(), *self.objective.parameters())
        return [value for value in everything if id(value) in trained]

    def _set_rates(self, optimizer: torch.optim.Optimizer, phase: Phase, step: int) -> None:
        factor = self.state.rate_factor * schedule(step, phase.epochs * self.steps_per_epoch, phase.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def _autocast(self) -> torch.autocast:
        wanted = self.options.precision
        if wanted == "auto":
            capable = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            wanted = "bfloat16" if capable else "float32"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted == "bfloat16")

    def _frozen(self, phase: Phase) -> State:
        """Copies of everything that this phase must not move, BatchNorm statistics included where they stand still."""
        frozen: State = {}
        for group, rate in phase.learning_rates.items():
            still = rate is None or phase.batch_norm == "eval"
            values = self.network.state_of(group) if still else self.network.parameters_of(group)
            moving = trainable(self.network, phase, group)
            frozen |= {name: value for name, value in values.items() if name not in moving}
        return _copy(frozen)

    def _compare(self, frozen: State) -> None:
        """Note what moved that should not have; before each checkpoint, so that a resume compares from clean ground."""
        now = self.network.state_dict()
        moved = [name for name, value in frozen.items() if not torch.equal(value, now[name])]
        self.state.moved += [name for name in moved if name not in self.state.moved]


def trainable(network: Network, phase: Phase, group: str) -> list[str]:
    """Names of the group's parameters that the phase moves."""
    if phase.learning_rates[group] is None:
        return []
    names = list(network.parameters_of(group))
    if not phase.only_batch_norm:
        return names
    norms = {name for name, module in network.named_modules() if isinstance(module, BATCH_NORM)}
    return [name for name in names if name.rpartition(".")[0] in norms]


def _optimizer_groups(values: list[nn.Parameter], rate: float | None, weight_decay: float) -> list[dict[str, Any]]:
    """Kernels with decay, biases and norms without."""
    kernels = [value for value in values if value.ndim > 1]
    others = [value for value in values if value.ndim <= 1]
    return [
        {"params": members, "lr": rate, "peak": rate, "weight_decay": decay}
        for members, decay in ((kernels, weight_decay), (others, 0.0))
        if members
    ]


def _draws(images: int, batch_size: int, steps: int, generator: torch.Generator) -> np.ndarray:
    """Row numbers [steps, batch], always whole batches: passes over the set follow each other until all are drawn."""
    batch_size = min(batch_size, images)
    passes = math.ceil(steps * batch_size / images)
    rows = torch.cat([torch.randperm(images, generator=generator) for _ in range(passes)])
    return rows[: steps * batch_size].view(steps, batch_size).numpy()


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
def score(
    network: nn.Module, images: Images, device: torch.device, *, batch_size: int, processes: Processes = ALONE
) -> Score:
    """Mean cross-entropy of images whose class was taught, and accuracy on all, unaugmented; leaves the network in eval
    mode.

    Several ``processes`` take batches in turn; losses are added up in the order of one.
    """
    network.eval()
    steps = images.in_order(batch_size)
    mine = range(processes.rank, len(steps), processes.size)
    found = torch.zeros(len(steps), 2, dtype=torch.float64)
    for number, views in zip(mine, images.bank.plain_views([steps[number] for number in mine], device), strict=True):
        labels = torch.from_numpy(images.labels[steps[number]]).to(device)
        logits = network(views)
        counted = torch.from_numpy(images.taught[steps[number]]).to(device)
        found[number, 0] = functional.cross_entropy(logits[counted], labels[counted], reduction="sum").item()
        found[number, 1] = (logits.argmax(dim=1) == labels).sum().item()
    losses, hits = (sum(column) for column in processes.summed(found).T.tolist())
    return Score(losses / int(images.taught.sum()), hits / len(images))


def score_on(device: str, network: Network, images: Images, *, batch_size: int = 256) -> Score:
    """:func:`score` on the device of this name (see :func:`~pipeline.core.device.choose`); the network, on the CPU
    before, is there again after it.
    """
    place = choose(device)
    found = score(network.to(place), images, place, batch_size=batch_size)
    network.to("cpu")
    return found


def _is_out_of_patience(phase: Phase, state: _State) -> bool:
    return phase.patience is not None and state.best is not None and state.waited >= phase.patience


def _is_refused(state: _State) -> bool:
    """Were epochs taken back twice in this phase, the second time at half the rates?"""
    return state.rate_factor <= 0.25


def _copy(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


class _Checkpoints:
    """The loop's state on disk, so that a killed run goes on; without a folder, nothing is kept.

    A checkpoint of another device, thread or process count or torch build is left alone: these round differently, and a
    network half from each would be equal to no undisturbed one.
    """

    def __init__(self, folder: Path | None, name: str, device: torch.device, processes: Processes = ALONE) -> None:
        self.path = folder and folder / f"{name}.checkpoint.pt"
        shared_by = "" if processes.is_alone else f"{processes.size} processes, "
        self._made_by = f"{device.type}, {shared_by}{torch.get_num_threads()} thread(s), torch {torch.__version__}"
        self._next_s = time.monotonic() + CHECKPOINT_EVERY_S

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

    def save(self, state: _State, network: Network, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        started = time.monotonic()
        if self.path is None or started < self._next_s:
            return
        kept = {name: getattr(state, name) for name in _State.__dataclass_fields__}
        kept |= {"history": [entry.model_dump() for entry in state.history]}
        kept |= {"made_by": self._made_by, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
        kept |= {"objective": objective.state_dict()}
        with replacing(self.path) as fresh, fresh.open("wb") as file:  # by itself torch does not say why writing failed
            torch.save(kept, file)
        done = time.monotonic()
        pause = CHECKPOINT_EVERY_S and max(CHECKPOINT_EVERY_S, (done - started) / CHECKPOINT_SHARE)
        self._next_s = done + pause


class _Curves:
    """``live.jsonl``: one line per epoch as it ends, for whoever watches.

    A later call of :func:`fit` in the same folder adds its lines to those of the earlier ones. ``live.parts.json`` says
    at which line each began, in their order: one that is begun again, after a kill, takes its lines back, and with them
    those of all that followed, which will be begun again too.
    """

    def __init__(self, folder: Path | None, name: str, history: list[Epoch]) -> None:
        self.path = folder and folder / "live.jsonl"
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        index = self.path.with_name("live.parts.json")
        begun: dict[str, int] = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.is_file() else []
        first = begun.get(name, len(lines))
        earlier = dict(takewhile(lambda part: part[0] != name, begun.items()))
        with replacing(index) as fresh:
            fresh.write_text(json.dumps(earlier | {name: first}), encoding="utf-8")
        self.path.write_text("".join([*lines[:first], *map(_line, history)]), encoding="utf-8")

    def append(self, entry: Epoch) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))


def _line(entry: Epoch) -> str:
    return entry.model_dump_json() + "\n"
