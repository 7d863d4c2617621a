"""Putting a probe's solution into a network, and saying so in the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.models.network import Network
from pipeline.training.linear_probe import Probe, solve
from pipeline.training.task import Task


def penalty_path(strongest: float = 1e5, weakest: float = 1e-6, count: int = 45) -> list[float]:
    """Penalties from strong to weak, evenly on a log scale."""
    return np.geomspace(strongest, weakest, count).tolist()


def final_head(task: Task, network: Network, penalties: Sequence[float]) -> Probe:
    """Make the probe's solution, at last fitted to every labelled image, the head that ``network`` answers with."""
    return _set_head(network, solve(task, penalties, refit=True))


def starting_head(task: Task, network: Network) -> Probe:
    """Make the probe's solution the head that training of ``network`` starts from; validation images stay unseen."""
    return _set_head(network, solve(task, penalty_path(), refit=False))


def _set_head(network: Network, probe: Probe) -> Probe:
    network.set_head(torch.from_numpy(probe.head.weight), torch.from_numpy(probe.head.bias))
    return probe


def facts(task: Task, probe: Probe, *sentences: str) -> dict[str, Any]:
    """The probe's part of a record; ``sentences`` follow the one on how its penalty was chosen."""
    return {
        "selection": probe.selection if task.holds_out else f"{probe.selection} of the probe",
        "chosen": {"penalty": probe.penalty},
        "cv_accuracy": None if task.holds_out else probe.accuracy,
        "sentences": [_choice(probe), *sentences],
    }


def _choice(probe: Probe) -> str:
    chosen = (
        f"The probe's penalty {probe.penalty:.2g} was chosen from {len(probe.penalties)} by cross-entropy "
        f"({probe.selection}, {probe.accuracy:.1%} right)"
    )
    return f"{chosen}." if probe.is_inside else f"{chosen}; it ends the path, so a better one may lie beyond."
