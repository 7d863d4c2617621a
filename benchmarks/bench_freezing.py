"""Claim: freezing saves what it promises.

The first blocks of networks with random weights (speed does not care) stay frozen, the others are trained by AdamW on
JPEG photos of rsscn7, all cores. Below the frozen line there is a forward pass and nothing else, so a step cannot be
faster than arithmetic allows: each block that is trained costs a forward pass and two of its size backward.

Without augmentation the outputs of frozen blocks are kept, and a step begins behind them: the last columns, beside the
same options with nothing kept (taken in turn), and what the first pass over all images costs.

``--write`` puts the table into the docs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _shifts import Problem
from bench_training import SIDE, ours, tabulate
from torch import nn

from pipeline.training.frozen_prefix import FrozenPrefix


def freezing(name: str, problem: Problem, _: Path, epochs: int, turns: int) -> list[list[str]]:
    """Images/s with the first blocks frozen, beside what arithmetic promises, and with their outputs kept."""
    network = problem.task.pretrained_network()
    blocks = list(network.row.blocks)
    work = _multiply_adds(network)
    whole = 3 * sum(work.values())
    plain = _without_augmentation(problem)
    every = ours(problem, epochs).later
    rows = []
    for frozen in sorted({len(blocks) // 2, len(blocks) - 2, len(blocks) - 1, len(blocks)}):
        trained = sum(work[block] for block in blocks[frozen:])
        promised = whole / (sum(work.values()) + 2 * trained)
        rate = ours(problem, epochs, frozen_blocks=frozen).later
        unkept, kept, passes = _in_turn(plain, epochs, turns, frozen)
        row = [name, f"{frozen} of {len(blocks)}", f"{rate:.1f}", f"{rate / every:.2f}", f"{promised:.2f}"]
        rows.append([*row, f"{unkept:.1f}", f"{kept:.1f}", f"{kept / unkept:.1f}", f"{passes:.1f}"])
    return rows


def _in_turn(problem: Problem, epochs: int, turns: int, frozen: int) -> tuple[float, float, float]:
    """Medians: images/s with nothing kept, with outputs kept, and seconds that the latter took."""
    unkept, kept, passes = [], [], []
    for _ in range(turns):
        with _nothing_kept():
            unkept.append(ours(problem, epochs, frozen_blocks=frozen).later)
        with _keeping() as spent:
            kept.append(ours(problem, epochs, frozen_blocks=frozen).later)
        passes.append(sum(spent))
    return statistics.median(unkept), statistics.median(kept), statistics.median(passes)


def _without_augmentation(problem: Problem) -> Problem:
    options = problem.task.options.model_copy(update={"augment": "none"})
    plain = replace(problem)
    plain.__dict__["task"] = replace(problem.task, options=options)  # in the place of the cached one
    return plain


@contextmanager
def _nothing_kept() -> Iterator[None]:
    kept, FrozenPrefix.kept = FrozenPrefix.kept, lambda *given, **named: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        FrozenPrefix.kept = kept  # type: ignore[method-assign]


@contextmanager
def _keeping() -> Iterator[list[float]]:
    """Seconds that the outputs took, of training and validation images."""
    kept, seconds = FrozenPrefix.kept, []

    def timed(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        outputs = kept(*given, **named)
        seconds.append(time.perf_counter() - started)
        return outputs

    FrozenPrefix.kept = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        FrozenPrefix.kept = kept  # type: ignore[method-assign]


def _multiply_adds(network: Any) -> dict[str, int]:
    """Of each block's convolutions and linear layers, for one image."""
    work = dict.fromkeys(network.row.blocks, 0)
    hooks = []

    def counts(block: str) -> Callable[..., None]:
        def note(module: nn.Module, _: Any, out: torch.Tensor) -> None:
            weight = module.weight
            places = out[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
            work[block] += weight.numel() * places

        return note

    for block in work:
        hooks += [
            module.register_forward_hook(counts(block))
            for module in network.modules_of(block)
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, SIDE, SIDE))
    for hook in hooks:
        hook.remove()
    return work


def main() -> None:
    header = ["backbone", "blocks frozen", "images/s", "× none frozen", "× by arithmetic"]
    header += ["not augmented", "outputs kept", "× not kept", "first pass, s"]
    taken = "later epochs; one turn of the augmented, medians of {turns} of the others"
    tabulate(__doc__, "freezing", header, freezing, taken)


if __name__ == "__main__":
    main()
