"""CORAL in closed form: whiten the source's features, colour them as the target's, then a probe.

Sun, Feng and Saenko, "Return of Frustratingly Easy Domain Adaptation" (AAAI 2016).

Map, over source features x_s [n_s, D], with C = covariance + 0.1 · mean(diag) · I [D, D] of each domain:
    x_s ↦ (x_s − μ_s) C_s^−½ C_t^½ + μ_t,    loss of ``probe`` on (x_s, y_s), and (x_t, y_t) if there are labels
The probe is fitted to the moved source and to the target's labelled images where there are any; it is a linear head on
the target's features as they are. Test images have no part in the moments.

Helps: shifts that change how features vary together.
Hurts: fewer images than features in a domain (the covariance is mostly the added diagonal); other class proportions;
whitening turns features further than it must, see linear_ot.
Cost: cached features, two D × D eigendecompositions, then the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "source features given the target's covariance, then a probe"
NEEDS = ("source", "unlabelled", "features")


class Params(PluginParams):
    """Nothing to set."""

    name: Literal["coral"] = "coral"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the source's features moved, and a probe on them."""
    from pipeline.training.classifiers import moments
    from pipeline.training.classifiers.two_domains import probe_on, rows_to_learn

    move = moments.coral(task.source_set.features, task.target_set)
    told = "Source features were whitened and given the target's mean and covariance; the backbone stayed frozen."
    return probe_on(task, params, rows_to_learn(task, move.moved), sentences=[told])
