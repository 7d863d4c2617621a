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
    terms: dict[str, float] = Field(default_factory=dict)
    """Parts of the loss and other values that the objective measures, e.g. ``domain_accuracy``; means over the epoch.
    """


class Group(Document):
    """One parameter group in one phase."""

    phase: str
    group: str
    parameters: int
    trainable: bool
    learning_rate: float | None
    batch_norm: str
    """``none`` (the group has no BatchNorm), ``fixed`` or ``updated``."""


Outcome = Literal["chosen", "kept", "beaten", "refused", "not tried"]
"""``chosen``: it ships. ``kept``: the baseline, for want of anything surely better. ``beaten``: by another candidate.
``refused``: by a guard, or for want of data. ``not tried``: the budget was spent before it could be judged."""


class Candidate(Document):
    """One strategy that ``auto`` considered, under one seed; None where something was not measured."""

    strategy: str
    repeat: int = 0
    """Its number among runs that differ in their seed alone, from 0."""
    outcome: Outcome
    accuracy: float | None = None
    """On labelled target images that it was not fitted to."""
    judged: int = 0
    """How many of these there were."""
    mixval: float | None = None
    """The share of pairs of target images that it names differently and whose blend it names after the stronger one."""
    information: float | None = None
    balance: float | None = None
    guards: dict[str, bool] = Field(default_factory=dict)
    network_mb: float | None = None
    why: str
    """A sentence."""


class Trial(Document):
    """What one strategy cost on this machine."""

    strategy: str
    repeat: int = 0
    seconds: float
    network_mb: float


class Trials(Document):
    """``reports/trials.json``: clock values, apart from the record because no two runs have the same."""

    rows: list[Trial]


class TrainingRecord(Document):
    """How a network came about."""

    strategy: str
    params: dict[str, Any]
    classes: list[str]
    labels_from: Literal["target", "source", "checkpoint"]
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
    measured: dict[str, float] = Field(default_factory=dict)
    """What the strategy measured besides, by name with its unit, e.g. ``teacher_accuracy`` or ``student_mb``."""
    sentences: list[str] = Field(default_factory=list)
    """What was decided and why, for people."""
    chose: str | None = None
    """The strategy that ``auto`` chose."""
    candidates: list[Candidate] = Field(default_factory=list)
    """What ``auto`` considered, in the order it was tried."""


def table(groups: list[Group]) -> str:
    """The parameter groups as text, one line per phase and group."""
    lines = [f"  {'phase':<12} {'group':<10} {'parameters':>12} {'rate':>9}  BatchNorm"]
    for row in groups:
        rate = "frozen" if row.learning_rate is None else f"{row.learning_rate:.1e}"
        lines.append(f"  {row.phase:<12} {row.group:<10} {row.parameters:>12,} {rate:>9}  {row.batch_norm}")
    return "\n".join(lines)
