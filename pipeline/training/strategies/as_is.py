"""as_is: the checkpoint as it came, its own head included; nothing is learned and nothing moves.

The zero line where there is neither a label nor a source: what adaptation without a source (adabn, tent, shot) has to
beat. Also the way to gate, export and hand off a classifier that was trained elsewhere.

Loss: none.

Helps: to see what a checkpoint is worth on these images before anything is changed.
Hurts: never; it may only be far from what is possible.
Cost: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "the checkpoint under its own head, unchanged"
NEEDS = ("checkpoint_head",)


class Params(PluginParams):
    """There is nothing to set."""

    name: Literal["as_is"] = "as_is"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Backbone and head as the checkpoint has them.

    Raises:
        WeightsError: the head does not answer with the label space's classes.
    """
    from pipeline.training.task import Fitted

    told = "The checkpoint answers with its own head; nothing was trained."
    return Fitted(task.checkpoint_network(), task.record(params, selection="none", uses_labels=False, sentences=[told]))
