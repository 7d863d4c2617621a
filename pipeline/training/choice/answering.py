"""Answers of a network to images of a task; where its backbone is the task's own, from the cached features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.models.network import Network
from pipeline.training.objectives import Images
from pipeline.training.task import Task

BATCH = 256


@torch.no_grad()
def logits(network: Network, images: Images, features: np.ndarray, task: Task, device: torch.device) -> np.ndarray:
    """float32 [n, classes] for ``images``, whose ``features`` [n, feature_dim] are those of the task's backbone."""
    network.to(device).eval()
    if has_the_tasks_backbone(network, task):
        parts = (network.head(torch.from_numpy(part).to(device)) for part in np.split(features, _cuts(len(features))))
    else:
        rows = np.split(np.arange(len(images)), _cuts(len(images)))
        parts = (network(views) for views in images.bank.plain_views(rows, device))
    found = torch.cat([part.float().cpu() for part in parts]).numpy()
    network.to("cpu")
    return found


def probabilities(found: np.ndarray) -> np.ndarray:
    """softmax over the classes, [n, classes]."""
    return torch.softmax(torch.from_numpy(found), dim=1).numpy()


def has_the_tasks_backbone(network: Network, task: Task) -> bool:
    """Are the backbone's weights and statistics, bit for bit, those that the features were computed with?"""
    if network.row.name != task.backbone.name:
        return False
    state: dict[str, Tensor] = network.backbone.state_dict()
    return all(torch.equal(value.cpu(), task.backbone.state[name]) for name, value in state.items())


def _cuts(count: int) -> list[int]:
    return list(range(BATCH, count, BATCH))
