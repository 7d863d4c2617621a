"""Instance weighting: source images that look like the target's count for more.

Shimodaira (2000); Sugiyama et al., "Covariate Shift Adaptation by Importance Weighted Cross Validation" (JMLR 2007);
the density ratio by a classifier as in Bickel et al. (ICML 2007).

Loss, over source features x_s [n_s, D] and labels y_s, weights w [n_s] with mean 1:
    mean_i( −w_i log softmax(W x̂_i + b)[y_i] ) + (penalty / 2) · ‖W‖²,    w(x) = (n_s / n_t) p(t | x) / p(s | x)
clipped to [0.1, 10]; each half of the images is weighted by a domain classifier fitted to the other half. Labelled
target images take part with weight 1.

Helps: domains that overlap, where the source merely has too many of some kinds of images.
Hurts: domains that a classifier tells apart: a few images then carry everything. It refuses when less than 5 % of the
source is effective or more than half of the weights are clipped.
Cost: cached features, two domain classifiers, then the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "source images weighted by their likeness to the target, then a probe"
NEEDS = ("source", "unlabelled", "features")


class Params(PluginParams):
    """Nothing to set."""

    name: Literal["instance"] = "instance"


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Frozen backbone, a weighted probe.

    Raises:
        DataError: the weights say nothing, as the domains hardly overlap.
    """
    from pipeline.training.classifiers.density_ratio import check, density_ratio
    from pipeline.training.classifiers.two_domains import labelled_source, probe_on, rows_to_learn

    weights = density_ratio(labelled_source(task).features, task.target_set, context.seed)
    print(f"  instance: {weights.told}", flush=True)
    check(weights)
    training = rows_to_learn(task, lambda features: features, weights.values)
    told = f"By their density ratio {weights.told}; the backbone stayed frozen."
    chosen = {"effective_images": weights.effective, "clipped_share": weights.clipped_share}
    return probe_on(task, params, training, sentences=[told], chosen=chosen)
