"""Self-training: the network learns from its own sure answers, class by class in equal measure.

Sohn et al., "FixMatch" (NeurIPS 2020), from a start by minimum class confusion (Jin et al., ECCV 2020), with a quota
per class (Zou et al., "Class-Balanced Self-Training", ECCV 2018).

Loss, over labelled images x [B, 3, S, S] with labels y, and weak and strong views w, s of B′ target images:
    mean_i( −log softmax(network(x_i))[y_i] ) + trade_off · Σ_{j ∈ A} −log softmax(network(s_j))[ŷ_j] / B′
where ŷ_j = argmax network(w_j), and A are the images answered with a confidence of at least ``least_confidence``, of
each class only the surest up to its quota. In the first part of training the second term is that of ``mcc`` on the weak
views. Labelled images are the source's and the target's, as far as there are any.

Helps: after any start that is mostly right; with a few labels and many unlabelled images.
Hurts: where sure answers are wrong: they are then learnt.
Cost: as mcc, with two views of each target image in place of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.training.adaptation.params import AdaptationParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "learns from its own sure answers to the target's unlabelled images, class by class"
NEEDS = ("labels", "unlabelled", "features", "pixels")


class Params(AdaptationParams):
    """When an answer is sure enough to learn from."""

    name: Literal["selftrain"] = "selftrain"
    start: Literal["probe", "mcc"] = "mcc"
    """``mcc`` first makes answers less confused; ``probe`` learns from the probe's answers at once."""
    start_share: float = Field(0.5, gt=0, lt=1)
    """Share of training that ``mcc`` takes."""
    least_confidence: float = Field(0.9, ge=0, le=1)
    quota: float = Field(1.5, gt=0)
    """A class gives at most this many times its expected share of each batch, its surest images first."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Labelled images with their labels, target images with the network's sure answers."""
    from pipeline.training.adaptation.adapt import adapt
    from pipeline.training.adaptation.guards import expected_prior
    from pipeline.training.adaptation.self_training import VIEWS, SelfTraining

    alignment = SelfTraining(
        expected_prior(task.all_set.labels, len(task.classes)),
        warm_up=params.start_share if params.start == "mcc" else 0.0,
        least_confidence=params.least_confidence,
        quota=params.quota,
    )
    first = f"After {params.start_share:.0%} of training with less confused answers" if alignment.warm_up else "At once"
    told = (
        f"{first}, the network learnt strong views of target images from its own answers to weak ones that were at "
        f"least {params.least_confidence:.0%} sure, at most {params.quota:g} times its expected share from each class."
    )
    return adapt(task, params, alignment, told, views=VIEWS)
