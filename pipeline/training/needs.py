"""What data a strategy may ask for in its ``NEEDS``, in words, and whether a task has it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from pipeline.core.errors import DataError

if TYPE_CHECKING:
    from pipeline.training.task import Task


class Need(NamedTuple):
    """One thing that a strategy cannot do without."""

    brief: str
    """In a list."""
    phrase: str
    """As in "needs …"."""
    is_met: Callable[[Task], bool]
    found: Callable[[Task], str]
    remedy: str


def _labels(task: Task) -> str:
    return f"{len(task.train) + len(task.val):,} labelled images, all from the {task.labels_from}"


def _target(task: Task) -> str:
    return f"{len(task.target.split('train')):,} target images to train on"


def _source(task: Task) -> str:
    return f"{len(task.source):,} labelled source images of the target's classes"


def _has_batch_norm(task: Task) -> bool:
    return any(name.endswith("running_mean") for name in task.backbone.state)


NEEDS: dict[str, Need] = {
    "labels": Need(
        "labels",
        "labelled images (the target's, or else the source's)",
        lambda task: task.labels_from != "checkpoint",
        lambda task: "none, neither in the target nor in the source",
        "Label a few images of each class, or add a labelled source.",
    ),
    "target_labels": Need(
        "target labels",
        "labelled target images",
        lambda task: task.labels_from == "target",
        _labels,
        "Label a few target images of each class, or choose a strategy that does without.",
    ),
    "validation": Need(
        "validation split",
        "a validation split with three images of each class",
        lambda task: task.holds_out,
        lambda task: f"{len(task.val):,} validation images over {len(task.classes)} classes",
        "Label more images, or raise ingest.val_share.",
    ),
    "source": Need(
        "source",
        "labelled source images of the target's classes",
        lambda task: len(task.source.split("train")) > 0,
        _source,
        "Name a source under ingest.source, and map its class names in ingest.label_map.",
    ),
    "unlabelled": Need(
        "target images",
        "target images to adapt to, labelled or not",
        lambda task: len(task.target.split("train")) > 1,
        _target,
        "Add target images; they need no labels.",
    ),
    "batch_norm": Need(
        "BatchNorm",
        "a backbone with BatchNorm",
        _has_batch_norm,
        lambda task: f"{task.backbone.name}, which has none",
        "Choose another backbone, or a strategy that does without.",
    ),
    "checkpoint_head": Need(
        "checkpoint's own head",
        "a checkpoint that came with its own head",
        lambda task: task.backbone.head is not None,
        lambda task: f"weights without one ({task.backbone.origin})",
        "Use a checkpoint that includes its classifier, or backbone.weights: pretrain.",
    ),
    "features": Need("", "the features of all images", lambda task: True, _target, ""),
    "pixels": Need("", "the images themselves", lambda task: True, _target, ""),
}
"""By the name that strategies write. ``features`` and ``pixels`` are always there; they tell what a strategy costs."""


def check(name: str, strategy: ModuleType, task: Task) -> None:
    """Refuse a strategy whose data are missing, before it starts.

    Raises:
        DataError: naming the first thing that is missing.
    """
    if missing := unmet(strategy, task):
        need = NEEDS[missing[0]]
        raise DataError(
            expected=f"{need.phrase} for strategy '{name}'",
            found=need.found(task),
            where="train.strategy.name in params.yaml",
            remedy=need.remedy,
        )


def unmet(strategy: ModuleType, task: Task) -> list[str]:
    """Names of the needs that the task does not meet."""
    return [name for name in strategy.NEEDS if not NEEDS[name].is_met(task)]


def in_brief(needs: tuple[str, ...]) -> str:
    """What a team must have, in a few words; features and pixels come with any images."""
    return ", ".join(NEEDS[name].brief for name in needs if NEEDS[name].brief) or "any images"
