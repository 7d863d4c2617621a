"""Label propagation: labels spread to unlabelled target images over a graph of neighbours, then a weighted probe.

Zhou et al., "Learning with Local and Global Consistency" (NeurIPS 2004); certainty weights from Iscen et al., "Label
Propagation for Deep Semi-supervised Learning" (CVPR 2019); class mass normalisation from Zhu et al., "Semi-supervised
Learning Using Gaussian Fields and Harmonic Functions" (ICML 2003).

Spread, over all images' labels Y [n, C] (rows of unlabelled ones are 0) and the normalised graph S [n, n], then scale
each class to its share q_c of the labels:
    F ← α S F + (1 − α) Y,    F_ic ← q_c F_ic / Σ_j F_jc,    p_i = F_i / Σ F_i,    ω_i = 1 − H(p_i) / log C
Loss, over labelled images (ω = 1) and propagated ones with label argmax p_i; ζ_c gives class c its share of labels:
    mean_i( −ζ_{y_i} ω_i log softmax(W x̂_i + b)[y_i] ) + (penalty / 2) · ‖W‖²

Helps: few labels and many unlabelled images of the same kind, whose classes lie in clusters.
Hurts: clusters that are no classes: wrong labels spread as far as right ones. Classes that are far more or less
frequent among the labels than among the other images: as many of these get each label as the labels' shares say.
Without target labels the source's are spread, and a gap between the domains leaves them on their side of it.
Cost: cached features; for each fold and once more a neighbour search over the labelled images and at most
``max_images`` others; then the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    import numpy as np

    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Labelled, Task

SUMMARY = "labels spread to unlabelled target images over a graph, then a probe"
NEEDS = ("labels", "unlabelled", "features")


class Params(PluginParams):
    """The graph."""

    name: Literal["label_propagation"] = "label_propagation"
    neighbours: int = Field(20, gt=0)
    """Of each image."""
    alpha: float = Field(0.9, gt=0, lt=1)
    """How much of an image's label comes from its neighbours."""
    max_images: int = Field(5000, gt=0)
    """Unlabelled images that take part; beyond that some are drawn."""


class Spread(NamedTuple):
    """The labelled images and those that labels reached, the weights of all, and how certain those reached are."""

    rows: Labelled
    weights: np.ndarray
    certainty: np.ndarray


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, a probe on the labelled images and on those that labels have reached."""
    import numpy as np

    from pipeline.core.seeding import derive
    from pipeline.training.classifiers import folds
    from pipeline.training.classifiers.linear_probe import Training
    from pipeline.training.classifiers.propagation import balanced, propagate
    from pipeline.training.classifiers.two_domains import probe_on
    from pipeline.training.task import Labelled

    classes, unlabelled = len(task.classes), task.target_set
    if task.labels_from == "target":
        unlabelled = unlabelled[task.target.split("train").frame["label"].isna().to_numpy()]
    if len(unlabelled) > params.max_images:
        random = np.random.default_rng(derive(context.seed, "label_propagation", "images"))
        unlabelled = unlabelled[np.sort(random.permutation(len(unlabelled))[: params.max_images])]

    def spread(labelled: Labelled) -> Spread:
        if not len(unlabelled):
            return Spread(labelled, np.ones(len(labelled)), np.zeros(0))
        found = propagate(labelled, unlabelled, classes, neighbours=params.neighbours, alpha=params.alpha)
        reached = found.certainty > 0
        rows = folds.joined(labelled, Labelled(unlabelled[reached], found.labels[reached]))
        certainty = np.concatenate([np.ones(len(labelled)), found.certainty[reached]])
        return Spread(rows, balanced(certainty, rows.labels, len(labelled)), found.certainty[reached])

    pairs, selection = folds.of_task(task)
    judged = []
    for pair in pairs:
        rows, weights, _ = spread(pair.fit)
        judged.append(folds.Fold(rows, pair.held_out, weights))
    everything, weights, certainty = spread(task.all_set)
    reached = f"{len(certainty):,} of {len(unlabelled):,}"
    told = f"Labels reached {reached} unlabelled target images; the backbone stayed frozen."
    chosen = {"mean_certainty": float(certainty.mean())} if len(certainty) else {}
    training = Training(judged, everything, weights, selection)
    return probe_on(task, params, training, sentences=[told], chosen=chosen)
