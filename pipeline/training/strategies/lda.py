"""Linear discriminant analysis with a shrunken covariance, in closed form over a whole path of shrinkages.

Fisher (1936); shrinkage as in Friedman, "Regularized Discriminant Analysis" (1989).

Model: standardised features x̂ [n, D] of class c are normal around μ_c [D] with one covariance S [D, D] for all classes,
    S = (1 − γ) Σ + γ · mean(diag Σ) · I,    logits_c = μ_cᵀ S⁻¹ x̂ − ½ μ_cᵀ S⁻¹ μ_c + log π_c
γ is chosen on held-out images, and one temperature for the logits with it.

Helps: few images per class, as all classes share one covariance; classes of about the same shape.
Hurts: classes that spread very differently; with many images the probe has fewer assumptions.
Cost: one forward pass per image (cached), then O(n D² + D³), once per fold and once for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from pipeline.core.context import Context
    from pipeline.training.classifiers.linear_probe import Head
    from pipeline.training.task import Fitted, Task

SUMMARY = "linear discriminant analysis on frozen features, closed form"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """The path of shrinkages, from 1 (all directions vary alike) to ``weakest``."""

    name: Literal["lda"] = "lda"
    shrinkages: int = Field(13, gt=0)
    """How many to try, evenly on a log scale."""
    weakest: float = Field(1e-4, gt=0, le=1)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the discriminant of the shrinkage that held-out images liked best."""
    from pipeline.training.classifiers import folds, heads, linear_fit
    from pipeline.training.classifiers.closed_form import Sums, lda_path

    def path(rows: np.ndarray, settings: Sequence[float]) -> Iterator[Head]:
        return lda_path(Sums.of(folds.take(task.all_set, rows), len(task.classes)), settings)

    shrinkages = heads.penalty_path(1.0, params.weakest, params.shrinkages)
    return linear_fit.fit(task, params, shrinkages, path, "shrinkage")
