"""Each domain under its own BatchNorm statistics: where adaptation without further labels starts.

A head fits the features that it was fitted on. So the labelled images come first, under their own statistics; only then
do the statistics become the target's, and the same head reads features that were brought to the same scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.core.device import choose
from pipeline.features.table import FeatureTable
from pipeline.models.network import Network
from pipeline.training.batch_norm import reestimate
from pipeline.training.classifiers import heads
from pipeline.training.engine import score
from pipeline.training.objectives import Images
from pipeline.training.task import Task

BATCH_SIZE = 256
"""Images per forward pass where nothing is learnt."""

SOURCE_IMAGES = 2000
"""Source images that its statistics are estimated from, at most, to measure what is left of the source."""


class Start(NamedTuple):
    """A network that answers with the task's classes, on the CPU, and the head's part of a record."""

    network: Network
    facts: dict[str, Any]


def starting_network(task: Task) -> Start:
    """The checkpoint under its own head where nothing is labelled, else the backbone under a probe's.

    The probe is fitted under the statistics of the domain whose labels it learns from. A backbone that was trained on
    the source has the source's already; any other's are estimated first.

    Raises:
        WeightsError: nothing is labelled, and the checkpoint's head does not answer with the task's classes.
    """
    if task.labels_from == "checkpoint":
        return Start(task.checkpoint_network(), {"selection": "none", "sentences": []})
    network = task.pretrained_network()
    if not (task.labels_from == "source" and task.backbone.facts.pretrained_on_source):
        images = task.fit_images if task.labels_from == "source" else task.target_images
        if restate(network, images, task.context.device):
            task = _with_features_of(network, task)
    return Start(network, heads.facts(task, heads.starting_head(task, network)))


def restate(network: Network, images: Images, device: str) -> bool:
    """:func:`~pipeline.training.batch_norm.reestimate` on ``device``, with the network back on the CPU after it."""
    network.to(choose(device))
    changed = reestimate(network, images, choose(device), batch_size=BATCH_SIZE)
    network.to("cpu")
    return changed


def held_out_accuracy(task: Task, network: Network) -> float | None:
    """On the labelled validation images, which nothing was fitted to; None where they are too few to be held out.

    Those of the source are answered under statistics of the source.
    """
    if task.val_images is None:
        return None
    device = choose(task.context.device)
    kept = {name: value.clone() for name, value in network.named_buffers()}
    network.to(device)
    if task.labels_from == "source":
        reestimate(network, task.fit_images, device, batch_size=BATCH_SIZE, most=SOURCE_IMAGES)
    accuracy = score(network, task.val_images, device, batch_size=BATCH_SIZE).accuracy
    network.to("cpu").load_state_dict(kept, strict=False)
    return accuracy


@torch.no_grad()
def features_of(network: Network, images: Images, device: torch.device) -> Tensor:
    """Features of unaugmented images in the modes the network is in, [n, feature_dim]."""
    steps = np.split(np.arange(len(images)), range(BATCH_SIZE, len(images), BATCH_SIZE))
    return torch.cat([network.backbone(views) for views in images.bank.plain_views(steps, device)])


def _with_features_of(network: Network, task: Task) -> Task:
    """The task with its labelled images' features as ``network`` makes them."""
    device = choose(task.context.device)
    parts = [images for images in (task.fit_images, task.val_images) if images is not None]
    network.to(device).eval()
    features = torch.cat([features_of(network, images, device) for images in parts]).cpu().numpy()
    network.to("cpu")
    ids = [image_id for images in parts for image_id in images.bank.manifest.frame["id"]]
    if task.labels_from == "source":
        return replace(task, source_features=_table(task.source_features, ids, features))
    return replace(task, target_features=_table(task.target_features, ids, features))


def _table(old: FeatureTable, ids: list[str], features: np.ndarray) -> FeatureTable:
    facts = old.facts.model_copy(update={"count": len(ids), "dtype": str(features.dtype)})
    return FeatureTable(facts, ids, features)
