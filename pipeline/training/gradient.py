"""The common end of every gradient strategy: run the phases, write the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.core.device import choose
from pipeline.core.params import PluginParams
from pipeline.models.network import Network
from pipeline.training.engine import fit, score
from pipeline.training.phases import Phase
from pipeline.training.task import Fitted, Task


def fine_tune(task: Task, network: Network, phases: Sequence[Phase], params: PluginParams, **facts: Any) -> Fitted:
    """Train ``network`` through ``phases`` on the task's labelled images; ``facts`` go into the record."""
    outcome = fit(network, phases, task.fit_images, task.val_images, task.options, task.context)
    facts.setdefault("selection", "validation split" if task.holds_out else "none")
    if task.val_images is not None:
        facts["val_accuracy"] = score(network, task.val_images, choose("cpu"), batch_size=256).accuracy
    record = task.record(
        params,
        history=outcome.history,
        groups=outcome.groups,
        guards={"frozen_weights_unchanged": True, "losses_finite": True},
        **facts,
    )
    return Fitted(network, record)
