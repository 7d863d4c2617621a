"""Per-domain standardisation: every feature gets, in the source, the mean and the deviation it has in the target.

What AdaBN (Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", 2016) does in every layer, done
once to the last one.

Map, over source features x_s [n_s, D] with means μ_s, deviations σ_s and the target's μ_t, σ_t [D], then a probe on it:
    x_s ↦ (x_s − μ_s) / σ_s · σ_t + μ_t,    loss of ``probe`` on (x_s, y_s), and (x_t, y_t) if there are labels
It is the same as to standardise each domain by its own moments: the map is folded so that the head needs none.
The probe is fitted to the moved source and to the target's labelled images where there are any; it is a linear head on
the target's features as they are. Test images have no part in the moments.

Helps: shifts of brightness, contrast or style, at no cost; the first thing to try without target labels.
Hurts: classes in other proportions than in the source: their means are then not to be matched.
Cost: cached features, then the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "each domain's features standardised, then a probe on the source"
NEEDS = ("source", "unlabelled", "features")


class Params(PluginParams):
    """Nothing to set."""

    name: Literal["standardise"] = "standardise"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, the source's features moved, and a probe on them."""
    from pipeline.training.classifiers import moments
    from pipeline.training.classifiers.two_domains import probe_on, rows_to_learn

    move = moments.standardising(task.source_set.features, task.target_set)
    told = "Source features were moved to the target's mean and deviation, each on its own; the backbone stayed frozen."
    return probe_on(task, params, rows_to_learn(task, move.moved), sentences=[told])
