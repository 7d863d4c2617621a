"""Linear optimal transport: the least displacement that gives source features the target's mean and covariance.

Dowson and Landau (1982); Flamary, Lounici and Ferrari, "Concentration bounds for linear Monge mapping estimation and
optimal transport domain adaptation" (2019).

Map, over source features x_s [n_s, D], with C = covariance + 0.1 · mean(diag) · I [D, D] of each domain:
    x_s ↦ (x_s − μ_s) C_s^−½ (C_s^½ C_t C_s^½)^½ C_s^−½ + μ_t,    loss of ``probe`` on (x_s, y_s), and (x_t, y_t) if any
The probe is fitted to the moved source and to the target's labelled images where there are any; it is a linear head on
the target's features as they are. Test images have no part in the moments.

Helps: as coral, with less turned about: of all maps that match the moments it moves features least.
Hurts: fewer images than features in a domain (the covariance is mostly the added diagonal); other class proportions.
Cost: cached features, two D × D eigendecompositions, then the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "source features moved onto the target's by linear optimal transport, then a probe"
NEEDS = ("source", "unlabelled", "features")


class Params(PluginParams):
    """Nothing to set."""

    name: Literal["linear_ot"] = "linear_ot"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the source's features moved, and a probe on them."""
    from pipeline.training.classifiers import moments
    from pipeline.training.classifiers.two_domains import probe_on, rows_to_learn

    move = moments.linear_ot(task.source_set.features, task.target_set)
    told = "Source features were moved onto the target's by linear optimal transport; the backbone stayed frozen."
    return probe_on(task, params, rows_to_learn(task, move.moved), sentences=[told])
