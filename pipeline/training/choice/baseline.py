"""What ships unless something surely beats it: what a careful person would take without a search.

With few labels a gain cannot be proven, so what the baseline is matters most there. Limits and order were set on
ants_bees, three domains of office_caltech10 and digits (MNIST, USPS, MNIST-M), seed 0, under ImageNet's mobilenet_v2;
docs/strategies.md tests the rule on other sets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.training.choice.situation import Situation
from pipeline.training.classifiers import prototypes
from pipeline.training.task import Labelled, Task

ENOUGH_TO_LEAVE_ONE_OUT = 5
"""Labelled images per class; with fewer, leaving one out tells more of how few they are than of the features."""

SEPARATES = 0.65
"""Share of the way from chance to perfect. Below it ``lp_ft`` was ahead of ``label_propagation`` in 10 of 12 cases with
five or twenty labels per class at sides of 48 to 96 px, by 6 points on average; above it, behind in 8 of 10 (48 to 224
px), by 3 points on average, and by 6 and 15 at 224 px."""


ROUNDING = 1e-6
"""What is left of a sum of unit vectors when all of them are taken away again, at most."""


class Baseline(NamedTuple):
    """Its strategy, and why that one; no sentence where there was nothing to weigh."""

    strategy: str
    sentence: str | None = None
    otherwise: str | None = None
    """What takes its place where it cannot be fitted; None for what always can."""


def baseline_of(task: Task, situation: Situation) -> Baseline:
    """The checkpoint as it is where there is nothing else; the probe where labels are many, or the source's.

    With up to twenty labels per class: fine-tuning from a probe where frozen features do not separate the classes, else
    labels spread over the unlabelled images, where these are more than the labelled ones. On photos and USPS at 64 and
    96 px spreading was ahead of the class mean in ten of ten cases with one or five labels per class, by 7.4 points on
    average; where half of the classes lost 85 % of their unlabelled images, in eight, by 2.5. On MNIST-M, whose classes
    frozen features do not separate, it was behind.
    """
    if task.labels_from == "checkpoint":
        return Baseline("as_is")
    if situation.labels in ("none", "many"):
        return Baseline("probe")
    plain = "class_mean" if situation.labels == "few" else "probe"
    if situation.per_class >= ENOUGH_TO_LEAVE_ONE_OUT:
        found = left_one_out(task.all_set, task.target_set, task.groups)
        if found.images and found.beyond_chance < SEPARATES:
            return Baseline(
                "lp_ft",
                f"Frozen features do not separate the classes: of {found.images} labelled images, each left out in "
                f"turn, the nearest class mean named {found.right} rightly. So the baseline is lp_ft.",
                otherwise=plain,
            )
    unlabelled = int(task.target.split("train").frame["label"].isna().sum())
    if unlabelled > len(task.all_set):
        return Baseline(
            "label_propagation",
            f"The baseline is label_propagation: beside {len(task.all_set)} labelled images there are {unlabelled:,} "
            "without a label.",
            otherwise=plain,
        )
    return Baseline(plain)


def _together(groups: np.ndarray | None, count: int) -> list[np.ndarray]:
    """Rows that are left out at once."""
    if groups is None:
        return list(np.arange(count)[:, None])
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


class LeftOneOut(NamedTuple):
    """How many of the labelled images the means of the others name rightly."""

    right: int
    images: int
    """Those of whose class another was left."""
    classes: int

    @property
    def beyond_chance(self) -> float:
        """0 for guessing, 1 for all right (Cohen's kappa with equal classes)."""
        chance = 1 / self.classes
        return (self.right / self.images - chance) / (1 - chance)


def left_one_out(labelled: Labelled, domain: np.ndarray, groups: np.ndarray | None = None) -> LeftOneOut:
    """Nearest class mean as in ``class_mean``, each image left out in turn with its group [n], where it has one;
    ``domain`` [m, D] gives the centre."""
    unit = prototypes.normalised(labelled.features, domain.mean(axis=0, dtype=np.float64).astype(np.float32))
    names, labels = np.unique(labelled.labels, return_inverse=True)
    sums = np.zeros((len(names), unit.shape[1]))
    np.add.at(sums, labels, unit)
    products = unit @ sums.T
    lengths = np.tile(np.linalg.norm(sums, axis=1), (len(unit), 1))
    for rows in _together(groups, len(unit)):
        touched, place = np.unique(labels[rows], return_inverse=True)
        own = np.zeros((len(touched), unit.shape[1]))
        np.add.at(own, place, unit[rows])
        products[np.ix_(rows, touched)] -= unit[rows] @ own.T
        lengths[np.ix_(rows, touched)] = np.linalg.norm(sums[touched] - own, axis=1)
    is_known = lengths > ROUNDING  # not of a class whose every image was left out
    named = np.where(is_known, products / np.where(is_known, lengths, 1.0), -np.inf).argmax(axis=1)
    judged = is_known[np.arange(len(labels)), labels]  # nobody could name the class of the others
    return LeftOneOut(int((named == labels)[judged].sum()), int(judged.sum()), len(names))
