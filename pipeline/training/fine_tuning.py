"""The common end of every gradient strategy: run the phases, write the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.core.params import PluginParams
from pipeline.models.network import Network
from pipeline.training.engine import Outcome, fit, score_on
from pipeline.training.objectives import Objective
from pipeline.training.phases import Phase
from pipeline.training.task import Fitted, Task


def fine_tune(
    task: Task,
    network: Network,
    phases: Sequence[Phase],
    params: PluginParams,
    *,
    objective: Objective | None = None,
    sentences: Sequence[str] = (),
    **facts: Any,
) -> Fitted:
    """Train ``network`` through ``phases`` on the task's labelled images, by cross-entropy if no objective is given.

    ``facts`` go into the record, and ``sentences`` on what the strategy decided before.
    """
    outcome = fit(network, phases, task.fit_images, task.val_images, task.options, task.context, objective=objective)
    facts.setdefault("selection", "validation split" if task.holds_out else "none")
    if task.val_images is not None:
        facts["val_accuracy"] = score_on(task.context.device, network, task.val_images).accuracy
    record = task.record(
        params,
        history=outcome.history,
        groups=outcome.groups,
        guards=outcome.guards,
        sentences=[*sentences, *(_told(phase, outcome) for phase in phases), *_shared(outcome)],
        **facts,
    )
    return Fitted(network, record)


def _told(phase: Phase, outcome: Outcome) -> str:
    """What became of a phase, as a sentence."""
    frozen = [group for group, rate in phase.learning_rates.items() if rate is None]
    trained = f"with {', '.join(frozen)} frozen" if frozen else "with every layer trained"
    epochs = [entry for entry in outcome.history if entry.phase == phase.name]
    ran = f"Phase {phase.name} ran {len(epochs)} of at most {phase.epochs} epochs {trained}"
    kept = outcome.kept.get(phase.name)
    if kept is None:
        return f"{ran}; without a validation split to choose by, the last one was kept."
    if kept == 0:
        return f"{ran}; none had a lower validation loss than the weights it began with, so these were kept."
    return f"{ran}; epoch {kept} was kept, for the lowest validation loss ({epochs[kept - 1].val_loss:.3f})."


def _shared(outcome: Outcome) -> list[str]:
    return [f"Each step's images were shared by {outcome.processes} processes."] if outcome.processes > 1 else []
