"""Labelled rows of both domains for one probe; the target's alone are held out where it has labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.training.classifiers import folds, heads
from pipeline.training.classifiers.folds import Fold, joined, take
from pipeline.training.classifiers.linear_probe import Training, solve_on
from pipeline.training.task import Fitted, Labelled, Task

Move = Callable[[np.ndarray], np.ndarray]
"""Source features [n, d] → the same images' features as the target would have them."""


def labelled_source(task: Task) -> Labelled:
    """The source's labelled images that are learned from: all, or where the target has labels the training split."""
    return task.all_set if task.labels_from == "source" else task.source_set


def rows_to_learn(task: Task, move: Move, weights: np.ndarray | None = None) -> Training:
    """The moved source, and the target's labelled images where there are any (each of weight 1).

    Choices are made on held-out target images, which are never moved; without target labels on held-out source images,
    moved (and weighted) as those that are fitted to.

    Args:
        task: with a source.
        move: applied to every source image.
        weights: of the rows of :func:`labelled_source`, [n], mean 1.
    """
    source = labelled_source(task)
    moved = Labelled(move(source.features), source.labels)
    parts, selection = folds.rows_of_task(task)
    if task.labels_from == "source":
        everything, always = moved, np.empty(0, dtype=np.int64)
    else:
        everything = joined(task.all_set, moved)
        always = np.arange(len(task.all_set), len(everything))
        weights = None if weights is None else np.concatenate([np.ones(len(task.all_set)), weights])
    pairs = [_fold(everything, np.concatenate([part.fit, always]), part.held_out, weights) for part in parts]
    return Training(pairs, everything, weights, selection)


def _fold(data: Labelled, fit: np.ndarray, held_out: np.ndarray, weights: np.ndarray | None) -> Fold:
    if weights is None:
        return Fold(take(data, fit), take(data, held_out))
    return Fold(take(data, fit), take(data, held_out), weights[fit], weights[held_out])


def probe_on(
    task: Task,
    params: Any,
    training: Training,
    *,
    sentences: Sequence[str],
    chosen: dict[str, float] | None = None,
) -> Fitted:
    """A frozen backbone under the probe of these rows, and its record; ``sentences`` follow that on the penalty."""
    network = task.pretrained_network()
    probe = solve_on(training, heads.penalty_path(), len(task.classes))
    heads.set_linear(network, probe.head)
    facts = heads.facts(task, probe, *sentences)
    facts["chosen"] |= chosen or {}
    return Fitted(network, task.record(params, val_accuracy=probe.accuracy if task.holds_out else None, **facts))
