"""Ridge regression onto the classes, in closed form: one decomposition solves a whole path of penalties.

Hoerl and Kennard, "Ridge Regression" (1970); as a classifier Rifkin et al., "Regularized Least-Squares
Classification" (2003).

Loss, over standardised features x̂ [n, D], one-hot labels y [n, C], weights W [C, D] and biases b [C]:
    mean_i( ‖y_i − W x̂_i − b‖² ) + penalty · ‖W‖²
Least squares are no probabilities: the logits are divided by one temperature, fitted to held-out images.

Helps: as a probe without iterations, whose result is exact and comes from sums alone (see federated).
Hurts: many classes whose features overlap: the least-squares fit pulls in right answers that are too right.
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

SUMMARY = "ridge regression on frozen features, closed form"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """The path of penalties, from ``strongest`` to ``weakest``."""

    name: Literal["ridge"] = "ridge"
    penalties: int = Field(13, gt=0)
    """How many penalties to try, evenly on a log scale."""
    weakest: float = Field(1e-4, gt=0)
    strongest: float = Field(1e2, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, exact solution for the penalty that held-out images liked best."""
    from pipeline.training.classifiers import folds, heads, linear_fit
    from pipeline.training.classifiers.closed_form import Sums, ridge_path

    def path(rows: np.ndarray, settings: Sequence[float]) -> Iterator[Head]:
        return ridge_path(Sums.of(folds.take(task.all_set, rows), len(task.classes)), settings)

    penalties = heads.penalty_path(params.strongest, params.weakest, params.penalties)
    return linear_fit.fit(task, params, penalties, path, "penalty")
