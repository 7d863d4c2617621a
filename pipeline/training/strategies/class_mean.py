"""Nearest class mean on centred, normalised features: the few-shot head.

Mensink et al., "Distance-Based Image Classification" (TPAMI 2013); Snell et al., "Prototypical Networks" (NeurIPS
2017); centred and normalised as in SimpleShot (Wang et al., 2019).

Nothing is minimised but one number. With x̂ = (x − centre) / ‖x − centre‖ and prototypes p [C, D], the mean x̂ of each
class brought to length 1:
    logits = scale · x̂ · p_c,    scale = 1 / temperature by the cross-entropy of held-out images
Episodes (N classes, K images each, drawn many times from the labelled images) tell what so few labels are worth; they
choose nothing.

Helps: one to five images per class, where anything with more parameters learns by heart.
Hurts: twenty images per class and more: the probe, ridge and lda also learn which directions matter.
Cost: cached features, then less than a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "nearest class mean on frozen features, for few labels"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """The episodes; the head itself has nothing to set."""

    name: Literal["class_mean"] = "class_mean"
    ways: int = Field(5, gt=1)
    """Classes per episode."""
    shots: int = Field(1, gt=0)
    """Images of each class that an episode learns from."""
    queries: int = Field(15, gt=0)
    """Others of each class that it answers, at most."""
    episodes: int = Field(300, ge=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, a prototype per class; the centre is the mean of the domain that the labels come from."""
    from collections.abc import Iterator

    import numpy as np

    from pipeline.training.classifiers import folds, heads, prototypes
    from pipeline.training.classifiers.selection import choose
    from pipeline.training.task import Fitted

    classes = len(task.classes)
    domain = task.target_set if task.labels_from == "target" else task.train_set.features
    centre = domain.mean(axis=0, dtype=np.float64).astype(np.float32)

    def trial(fold: folds.Fold) -> Iterator[np.ndarray]:
        yield prototypes.cosines(fold.fit, fold.held_out.features, centre, classes)

    pairs, selection = folds.of_task(task)
    choice = choose(pairs, [None], [trial(fold) for fold in pairs], selection=selection, what="class means")
    network = task.pretrained_network()
    network.head = prototypes.head_of(task.all_set, centre, choice.temperature, classes)
    chosen, sentences = {"temperature": choice.temperature}, ["The backbone stayed frozen; each class is one mean."]
    drawn = prototypes.episodes(
        task.all_set,
        centre,
        ways=params.ways,
        shots=params.shots,
        queries=params.queries,
        count=params.episodes,
        seed=context.seed,
    )
    facts = heads.chosen_facts(task, choice, chosen, *sentences)
    if drawn is not None:
        facts["chosen"] = chosen | {"episode_accuracy": drawn.accuracy, "episode_half_width": drawn.half_width}
        facts["sentences"].append(drawn.told)
    return Fitted(network, task.record(params, **facts))
