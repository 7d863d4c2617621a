"""Linear support vector machine on frozen features, one class against the rest.

Cortes and Vapnik, "Support-Vector Networks" (1995); squared hinge as in DeCAF (Donahue et al., ICML 2014).

Loss, over standardised features x̂ [n, D], weights W [C, D], biases b [C], t [n, C] = +1 for the label's class, else −1:
    mean_i( Σ_c max(0, 1 − t_ic (w_c x̂_i + b_c))² ) + (penalty / 2) · (‖W‖² + ‖b‖²)
Margins are no probabilities: the logits are divided by one temperature, fitted to held-out images.

Helps: where the probe does; it looks only at images near the border, so that easy ones do not pull at it.
Hurts: many classes with few images each (every class is one against all others); probabilities are rougher than a
probe's.
Cost: cached features, then seconds; some times the probe's with tens of thousands of images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "linear support vector machine on frozen features"
NEEDS = ("labels", "features")


class Params(PluginParams):
    """The path of penalties, from ``strongest`` to ``weakest``."""

    name: Literal["svm"] = "svm"
    penalties: int = Field(11, gt=0)
    """How many penalties to try, evenly on a log scale."""
    weakest: float = Field(1e-3, gt=0)
    strongest: float = Field(1e2, gt=0)


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, machines of the penalty that held-out images liked best, fitted to all labelled images."""
    from pipeline.training.classifiers import folds, heads, linear_fit
    from pipeline.training.classifiers.margins import svm_path

    data, classes = task.all_set, len(task.classes)
    penalties = heads.penalty_path(params.strongest, params.weakest, params.penalties)
    return linear_fit.fit(
        task, params, penalties, lambda rows, path: svm_path(folds.take(data, rows), path, classes), "penalty"
    )
