"""The common end of linear heads that are solved for a path of settings: choose one, calibrate, fit to everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.training.classifiers import folds, heads
from pipeline.training.classifiers.linear_probe import Head
from pipeline.training.classifiers.selection import Choice, choose
from pipeline.training.task import Fitted, Task

Path = Callable[[np.ndarray, Sequence[float]], Iterator[Head]]
"""The heads on these rows of ``Task.all_set`` for each setting, in order."""


PATIENCE = 3
"""Settings in a row that are no better before the rest of the path, the slowest to solve, is left out."""


def fit(
    task: Task, params: Any, settings: Sequence[float], path: Path, called: str, sentences: Sequence[str] = ()
) -> Fitted:
    """A frozen backbone under the head of the best setting; ``called`` names the setting in the record."""
    rows, selection = folds.rows_of_task(task)
    pairs, _ = folds.of_task(task)
    answers = [_logits(path(part.fit, settings), pair) for part, pair in zip(rows, pairs, strict=True)]
    choice = choose(
        pairs,
        settings,
        answers,
        selection=selection,
        what=params.name,
        patience=PATIENCE,
    )
    with threadpool_limits(1):
        head = next(path(np.arange(len(task.all_set)), [choice.setting]))
    network = task.pretrained_network()
    heads.set_linear(network, head.tempered(choice.temperature))
    told = (
        "The backbone stayed frozen; the head was at last fitted to all labelled images, those held out among them, "
        "and its logits scaled by the temperature."
    )
    chosen = {called: choice.setting, "temperature": choice.temperature}
    notes = [f"The {called} ends the path, so a better one may lie beyond."] if _may_lie_beyond(choice, called) else []
    return Fitted(network, task.record(params, **heads.chosen_facts(task, choice, chosen, *notes, told, *sentences)))


def _may_lie_beyond(choice: Choice[float], called: str) -> bool:
    """A shrinkage of 1 ends its path because there is none above it."""
    is_largest_shrinkage = called == "shrinkage" and choice.setting == max(choice.settings)
    return not (choice.is_inside or is_largest_shrinkage)


def _logits(heads_of_path: Iterator[Head], fold: folds.Fold) -> Iterator[np.ndarray]:
    for head in heads_of_path:
        yield head.logits(fold.held_out.features)
