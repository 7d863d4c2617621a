"""Linear support vector machines over a path of penalties; the solver behind ``svm``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

from pipeline.training.classifiers.linear_probe import Head, Scaler, folded
from pipeline.training.task import Labelled

MOST_PASSES = 300
"""Over the images. Weak penalties would take thousands, and held-out images do not notice the difference."""


def svm_path(data: Labelled, penalties: Sequence[float], classes: int) -> Iterator[Head]:
    """For each penalty the head of one squared-hinge machine per class against the rest, on standardised features.

    Minimises mean_i Σ_c max(0, 1 − t_ic (w_c x̂_i + b_c))² + (penalty / 2)·(‖W‖² + ‖b‖²), t = +1 for the label's class
    and −1 for the others (Fan et al., LIBLINEAR, 2008). What is common to the logits of all classes is taken away.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    scaler = Scaler.of(data.features)
    scaled = scaler(data.features)
    for penalty in penalties:
        model = LinearSVC(C=1 / (penalty * len(data)), dual="auto", tol=1e-3, max_iter=MOST_PASSES, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # see MOST_PASSES
            model.fit(scaled, data.labels)
        yield folded(model, scaler, classes, centre=True)
