"""Putting what was solved on features into a network, and saying so in the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.models.network import Network
from pipeline.training.classifiers.linear_probe import Head, Probe, solve
from pipeline.training.classifiers.selection import Choice
from pipeline.training.task import Task


def penalty_path(strongest: float = 1e5, weakest: float = 1e-6, count: int = 45) -> list[float]:
    """Penalties from strong to weak, evenly on a log scale."""
    return np.geomspace(strongest, weakest, count).tolist()


UNJUDGED = "There are too few labelled images, or groups of them, to hold one out, so the middle of the path"


def final_head(task: Task, network: Network, penalties: Sequence[float]) -> Probe:
    """Make the probe's solution, at last fitted to every labelled image, the head that ``network`` answers with."""
    return _set_head(network, solve(task, penalties, refit=True))


def starting_head(task: Task, network: Network) -> Probe:
    """Make the probe's solution the head that training of ``network`` starts from; validation images stay unseen."""
    return _set_head(network, solve(task, penalty_path(), refit=False))


def _set_head(network: Network, probe: Probe) -> Probe:
    set_linear(network, probe.head)
    return probe


def set_linear(network: Network, head: Head) -> None:
    """Let ``network`` answer with this linear head."""
    network.set_head(torch.from_numpy(head.weight), torch.from_numpy(head.bias))


def tensors(**values: np.ndarray | float) -> dict[str, torch.Tensor]:
    """What a head of buffers is made of: int64 where the values are whole numbers, else float32."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    kinds = {name: np.int64 if array.dtype.kind in "iu" else np.float32 for name, array in arrays.items()}
    return {name: torch.from_numpy(np.array(array, kinds[name], order="C")) for name, array in arrays.items()}


def chosen_facts(task: Task, choice: Choice[Any], chosen: dict[str, float], *sentences: str) -> dict[str, Any]:
    """The part of a record that a choice by held-out images makes; the sentence on how comes first."""
    named = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in chosen.items())
    tried = f" from {len(choice.settings)}" if len(choice.settings) > 1 else ""
    if choice.accuracy is None:
        how = f"{UNJUDGED} was taken: {named}."
    else:
        how = f"Chosen{tried} by cross-entropy ({choice.selection}, {choice.accuracy:.1%} right): {named}."
    return {
        "selection": choice.selection,
        "chosen": chosen,
        "val_accuracy": choice.accuracy if task.holds_out else None,
        "cv_accuracy": None if task.holds_out else choice.accuracy,
        "sentences": [how, *sentences],
    }


def facts(task: Task, probe: Probe, *sentences: str) -> dict[str, Any]:
    """The probe's part of a record; ``sentences`` follow the one on how its penalty was chosen."""
    is_the_probes_alone = probe.accuracy is not None and not task.holds_out
    return {
        "selection": f"{probe.selection} of the probe" if is_the_probes_alone else probe.selection,
        "chosen": {"penalty": probe.penalty},
        "cv_accuracy": None if task.holds_out else probe.accuracy,
        "sentences": [_choice(probe), *sentences],
    }


def _choice(probe: Probe) -> str:
    if probe.accuracy is None:
        return f"{UNJUDGED} was taken: penalty {probe.penalty:.2g}."
    chosen = (
        f"The probe's penalty {probe.penalty:.2g} was chosen from {len(probe.penalties)} by cross-entropy "
        f"({probe.selection}, {probe.accuracy:.1%} right)"
    )
    return f"{chosen}." if probe.is_inside else f"{chosen}; it ends the path, so a better one may lie beyond."
