"""What training leaves behind for gates, reports and people. No clock values: equal work gives an equal record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline.core.files import Document


class Epoch(Document):
    """One epoch's curve values; also one line of ``live.jsonl``."""

    phase: str
    epoch: int
    """Counted from 1 within the phase."""
    train_loss: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    learning_rate: float
    """The largest rate of any group at the epoch's last step."""


class Group(Document):
    """One parameter group in one phase."""

    phase: str
    group: str
    parameters: int
    trainable: bool
    learning_rate: float | None
    batch_norm: str
    """``none`` (the group has no BatchNorm), ``fixed`` or ``updated``."""


class TrainingRecord(Document):
    """How a network came about."""

    strategy: str
    params: dict[str, Any]
    classes: list[str]
    labels_from: Literal["target", "source"]
    images: dict[str, int]
    """Labelled ``train`` and ``val`` images used, and the target's ``unlabelled`` ones."""
    selection: str
    """What choices were made on: ``validation split``, ``5-fold cross-validation of the probe`` or ``none``."""
    chosen: dict[str, float] = Field(default_factory=dict)
    """Hyper-parameters that were selected, e.g. ``penalty``."""
    val_accuracy: float | None = None
    """Accuracy on the validation split of what was chosen there; null where that was too small and went into training.
    """
    cv_accuracy: float | None = None
    """Cross-validated accuracy of the linear probe, where validation was too small; not of what was trained after it.
    """
    history: list[Epoch] = Field(default_factory=list)
    groups: list[Group] = Field(default_factory=list)
    threads: int = 1
    device: str = "cpu"
    guards: dict[str, bool] = Field(default_factory=dict)
    """Promises that were measured, e.g. ``frozen_weights_unchanged``; none where nothing was trained by gradient."""
    sentences: list[str] = Field(default_factory=list)
    """What was decided and why, for people."""


def table(groups: list[Group]) -> str:
    """The parameter groups as text, one line per phase and group."""
    lines = [f"  {'phase':<12} {'group':<10} {'parameters':>12} {'rate':>9}  BatchNorm"]
    for row in groups:
        rate = "frozen" if row.learning_rate is None else f"{row.learning_rate:.1e}"
        lines.append(f"  {row.phase:<12} {row.group:<10} {row.parameters:>12,} {rate:>9}  {row.batch_norm}")
    return "\n".join(lines)
