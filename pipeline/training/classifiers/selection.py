"""Choosing one setting of a method, and the temperature of its logits, on images that were held out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.core.progress import track
from pipeline.training.classifiers.folds import Fold, answered
from pipeline.training.classifiers.linear_probe import cross_entropy
from pipeline.training.classifiers.temperature import fit_temperature

Setting = TypeVar("Setting")


class Choice(NamedTuple, Generic[Setting]):
    """The setting with the lowest held-out cross-entropy."""

    setting: Setting
    temperature: float
    """By which the method's logits are to be divided."""
    accuracy: float | None
    """On the held-out images; None where there were none."""
    selection: str
    settings: Sequence[Setting]
    """All that could have been chosen, in the order they were tried."""

    @property
    def is_inside(self) -> bool:
        """Does the setting neither begin nor end the path, so that the best one was within reach?"""
        return self.setting not in (self.settings[0], self.settings[-1])


def choose(
    folds: Sequence[Fold],
    settings: Sequence[Setting],
    answers: Sequence[Iterator[np.ndarray]],
    *,
    selection: str,
    what: str,
    calibrate: bool = True,
    patience: int | None = None,
) -> Choice[Setting]:
    """Try every setting on every fold; cross-entropy under the best temperature decides.

    Cross-entropy and not accuracy: it still tells settings apart where a few dozen held-out images give all of them the
    same number of hits. An image of a class that its fold was not fitted to is a miss under every setting, and has no
    part in the cross-entropy.

    Args:
        folds: what was fitted to and what is judged on.
        settings: to choose from.
        answers: for each fold the logits [n, classes] of its held-out images under each setting, in order; computed as
            they are asked for.
        selection: what to call the folds in the record.
        what: to call the work by while it runs.
        calibrate: False takes the logits as they are.
        patience: settings in a row that are no better before the rest is left out; None tries all.

    Without a fold the middle of the path is taken, and logits stay as they are.
    """
    if not folds:
        return Choice(settings[len(settings) // 2], 1.0, None, selection, settings)
    count = sum(len(fold.held_out) for fold in folds)
    best, best_loss, waited = Choice(settings[0], 1.0, None, selection, settings), math.inf, 0
    with threadpool_limits(1):  # sums over several threads round differently
        tried = zip(settings, *answers, strict=True)
        for setting, *given in track(tried, what=what, unit="settings", total=len(settings)):
            judged = [answered(fold, logits) for fold, logits in zip(folds, given, strict=True)]
            logits = np.concatenate([part.logits.astype(np.float64) for part in judged])
            labels = np.concatenate([part.labels for part in judged])
            temperature = fit_temperature(logits, labels) if calibrate else 1.0
            loss = cross_entropy(logits / temperature, labels)
            waited += 1
            if loss < best_loss:
                hits = int((logits.argmax(axis=1) == labels).sum())
                best_loss, best, waited = loss, Choice(setting, temperature, hits / count, selection, settings), 0
            if waited == patience:
                break
    return best
