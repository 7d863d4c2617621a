"""k nearest labelled images by cosine, their votes weighted by nearness, on frozen features.

Fix and Hodges (1951); the weighting of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (CVPR 2018).

Nothing is minimised. With x̂ centred and of length 1, exemplars e [m, D] and their one-hot labels y [m, C]:
    p(x) = Σ_{i in the k nearest} softmax(x̂ · e_i / temperature) · y_i

Helps: classes of several kinds of images each; every answer can be shown with the images it came from.
Hurts: few images per class, and features with many directions that say nothing about the classes.
Cost: cached features, then seconds; the exported file carries the exemplars (4 bytes × D each).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "votes of the nearest labelled images, on frozen features"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """What is tried, and how many exemplars are kept."""

    name: Literal["knn"] = "knn"
    k: tuple[PositiveInt, ...] = Field((1, 3, 5, 10, 20), min_length=1)
    temperatures: tuple[PositiveFloat, ...] = Field((0.02, 0.05, 0.1, 0.2), min_length=1)
    max_exemplars: int = Field(5000, gt=0)
    """Beyond that some are drawn, equally many of each class."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the votes that held-out images liked best, over all labelled images."""
    from collections.abc import Iterator

    import numpy as np

    from pipeline.core.seeding import derive
    from pipeline.training.classifiers import folds, heads, neighbours
    from pipeline.training.classifiers.selection import choose
    from pipeline.training.task import Fitted

    classes, seed = len(task.classes), derive(context.seed, "knn", "exemplars")
    settings = [neighbours.Votes(k, temperature) for k in params.k for temperature in params.temperatures]

    def trial(fold: folds.Fold) -> Iterator[np.ndarray]:
        known = neighbours.exemplars(fold.fit, params.max_exemplars, seed)
        return neighbours.votes_path(known, fold.held_out.features, settings, classes)

    pairs, selection = folds.of_task(task)
    choice = choose(
        pairs,
        settings,
        [trial(fold) for fold in pairs],
        selection=selection,
        what="knn",
        calibrate=False,
    )
    kept = neighbours.exemplars(task.all_set, params.max_exemplars, seed)
    network = task.pretrained_network()
    network.head = neighbours.head_of(kept, choice.setting, classes)
    told = f"The backbone stayed frozen; {len(kept):,} of {len(task.all_set):,} labelled images are kept to vote."
    facts = heads.chosen_facts(task, choice, choice.setting._asdict(), told)
    return Fitted(network, task.record(params, **facts))
