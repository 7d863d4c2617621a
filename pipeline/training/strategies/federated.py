"""Federated transfer: sites keep their images and send sums, or the weights of a head.

Ridge and LDA from sums, exact in one round: Chu et al., "Map-Reduce for Machine Learning on Multicore" (NeurIPS 2006);
on frozen features Fanì et al., "Accelerating Heterogeneous Federated Learning with Closed-form Classifiers" (2024).
FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (AISTATS 2017).

Each site k sends, over its features x [n_k, D] and labels y: image counts [C], Σ x per class [C, D] and Σ x xᵀ [D, D].
The sums add up to those of all images, so that the loss is that of ``ridge`` (or the model of ``lda``) on all of them.
``head: fedavg`` minimises the loss of ``probe`` by averaging heads [C, D + 1] that sites train on their own.

Helps: images that may not leave where they were taken; nothing is lost against one site with all images.
Hurts: a sum over one image is that image's features: set ``min_count``, and what a site has fewer of stays out. Two
contributions that differ by one image reveal it. FedAvg with sites of different classes needs many rounds.
Cost: cached features, sums of D² numbers per site, then that of ridge or lda.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from pipeline.core.context import Context
    from pipeline.training.classifiers.linear_probe import Head
    from pipeline.training.task import Fitted, Task

SUMMARY = "sites send sums or heads, never images: exact ridge or LDA, or FedAvg"
NEEDS = ("labels", "features")

SETTING = {"ridge": "penalty", "lda": "shrinkage", "fedavg": "penalty"}
"""What is chosen for each head."""


class Params(PluginParams):
    """Who the sites are, and what they send."""

    name: Literal["federated"] = "federated"
    head: Literal["ridge", "lda", "fedavg"] = "ridge"
    site: str | None = None
    """The manifest's column that names each image's site; null: this workspace is one site."""
    statistics: tuple[Path, ...] = ()
    """Contributions of other sites, written there by ``graftline contribute``, over images that are not here; for ridge
    and lda."""
    min_count: int = Field(1, gt=0)
    """A site with fewer images of a class than this leaves the class out."""
    rounds: int = Field(30, gt=0)
    """Of FedAvg."""
    local_steps: int = Field(10, gt=0)
    """Gradient steps of a site in each round of FedAvg."""

    @model_validator(mode="after")
    def _sums_suffice(self) -> Params:
        if self.head == "fedavg" and self.statistics:
            raise ValueError("head: fedavg needs the sites' images in every round; statistics are for ridge and lda")
        return self


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the head that the sites arrive at together.

    Raises:
        DataError: no such column, or a contribution over other features or classes.
    """
    from pipeline.training.classifiers import federation, folds, heads, linear_fit
    from pipeline.training.classifiers.closed_form import lda_path, ridge_path

    classes, sites = len(task.classes), federation.sites_of(task, params.site)
    others = federation.contributions(task, [context.workspace / file.expanduser() for file in params.statistics])

    def path(rows: np.ndarray, settings: Sequence[float]) -> Iterator[Head]:
        parts = federation.parts_of(folds.take(task.all_set, rows), sites[rows])
        sums = federation.merged(parts, others, classes, params.min_count)
        if params.head == "ridge":
            return ridge_path(sums, settings)
        if params.head == "lda":
            return lda_path(sums, settings)
        return federation.fedavg_path(
            parts,
            sums,
            settings,
            rounds=params.rounds,
            local_steps=params.local_steps,
            min_count=params.min_count,
        )

    settings = {
        "ridge": heads.penalty_path(1e2, 1e-4, 13),
        "lda": heads.penalty_path(1.0, 1e-4, 13),
        "fedavg": heads.penalty_path(1e-1, 1e-3, 3),
    }[params.head]
    told = federation.told(federation.parts_of(task.all_set, sites), others, classes, params.min_count)
    return linear_fit.fit(task, params, settings, path, SETTING[params.head], [told])
