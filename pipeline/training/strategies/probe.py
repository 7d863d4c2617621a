"""Linear probe: a logistic regression on frozen features.

Kornblith et al., "Do Better ImageNet Models Transfer Better?" (2019); the recipe of CLIP (2021) and VTAB (2019).

Loss, over standardised features x̂ [n, D], weights W [C, D], biases b [C] and labels y [n]:
    mean_i( −log softmax(W x̂_i + b)[y_i] ) + (penalty / 2) · ‖W‖²
It is convex: Newton's method finds the one minimum, and only the penalty has to be chosen. Of two classes one row of
weights is penalised, their difference.

Helps: always the first thing to try; hard to beat below some twenty images per class.
Hurts: where the target differs so much that the frozen features lack what tells its classes apart.
Cost: one forward pass per image (cached), then seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "logistic regression on frozen features"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """The path of penalties, from ``strongest`` to ``weakest``."""

    name: Literal["probe"] = "probe"
    penalties: int = Field(45, gt=0)
    """How many penalties to try, evenly on a log scale."""
    weakest: float = Field(1e-6, gt=0)
    strongest: float = Field(1e5, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, optimal linear head; chosen on the validation split, then fitted to that too."""
    from pipeline.training.classifiers import heads
    from pipeline.training.task import Fitted

    network = task.pretrained_network()
    probe = heads.final_head(task, network, heads.penalty_path(params.strongest, params.weakest, params.penalties))
    told = (
        "The backbone stayed frozen; with that penalty the head was at last fitted to all labelled images, those held "
        "out among them."
    )
    measured = probe.accuracy if task.holds_out else None
    return Fitted(network, task.record(params, val_accuracy=measured, **heads.facts(task, probe, told)))
