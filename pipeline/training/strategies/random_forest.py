"""Random forest on frozen features.

Breiman, "Random Forests" (2001). The trees are kept as tensors inside the network, so that the exported file holds them
like any other weight.

Each tree splits features x [n, D] at thresholds that lower the Gini impurity Σ_c p_c (1 − p_c), on a bootstrap sample
and √D features at a time; the answer is the mean over trees of the class shares [C] in the leaf that x falls into.

Helps: classes that are no half-spaces of the features; as a check on the linear heads.
Hurts: usually: features of deep networks are made to be separated by planes, and single features say little.
Cost: cached features, then seconds to minutes; the exported file grows by ``size_mb`` at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "random forest on frozen features"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """The forest, and the depths it is chosen from."""

    name: Literal["random_forest"] = "random_forest"
    trees: int = Field(100, gt=0, le=2000)
    depths: tuple[PositiveInt, ...] = Field((4, 8, 14), min_length=1)
    """Of a tree, at most; what is tried."""
    size_mb: float = Field(16.0, gt=0)
    """What the trees may add to the exported file."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the forest of the depth that held-out images liked best, fitted to all labelled images."""
    from collections.abc import Iterator

    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    from pipeline.core.seeding import derive
    from pipeline.models.heads import SMALLEST
    from pipeline.training.classifiers import folds, forest, heads
    from pipeline.training.classifiers.selection import choose
    from pipeline.training.task import Fitted, Labelled

    classes = len(task.classes)
    leaves = forest.most_leaves(params.trees, classes, params.size_mb)

    def grown(data: Labelled, depth: int) -> RandomForestClassifier:
        seed = derive(context.seed, "random_forest") % 2**32
        model = RandomForestClassifier(params.trees, max_depth=depth, max_leaf_nodes=leaves, random_state=seed)
        return model.fit(data.features, data.labels)

    def trial(fold: folds.Fold) -> Iterator[np.ndarray]:
        for depth in params.depths:
            model = grown(fold.fit, depth)
            shares = np.zeros((len(fold.held_out), classes))
            shares[:, model.classes_] = model.predict_proba(fold.held_out.features)
            yield np.log(shares + SMALLEST)

    pairs, selection = folds.of_task(task)
    choice = choose(
        pairs,
        params.depths,
        [trial(fold) for fold in pairs],
        selection=selection,
        what="forest",
        calibrate=False,
    )
    network = task.pretrained_network()
    network.head = forest.head_of(grown(task.all_set, choice.setting), classes)
    told = f"The backbone stayed frozen; {params.trees} trees were at last grown on all labelled images."
    facts = heads.chosen_facts(task, choice, {"depth": choice.setting}, told)
    return Fitted(network, task.record(params, **facts))
