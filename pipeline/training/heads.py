"""Putting a probe's solution into a network, and saying so in the record."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.models.network import Network
from pipeline.training.linear_probe import Probe, solve
from pipeline.training.task import Task


def fit_probe(task: Task, network: Network, *, strongest: float = 1e5, weakest: float = 1e-6, count: int = 45) -> Probe:
    """Solve the probe on the task's features and make its solution the head of ``network``."""
    probe = solve(task, np.geomspace(strongest, weakest, count).tolist())
    network.set_head(torch.from_numpy(probe.head.weight), torch.from_numpy(probe.head.bias))
    return probe


def facts(task: Task, probe: Probe) -> dict[str, Any]:
    """The probe's part of a record."""
    return {
        "selection": probe.selection,
        "chosen": {"penalty": probe.penalty},
        "val_accuracy": probe.accuracy if task.holds_out else None,
        "cv_accuracy": None if task.holds_out else probe.accuracy,
    }
