"""The reports of the explain stage: what the network looks at, and how it holds against changes of its input.

As in :mod:`pipeline.evaluation.report`, figures to compare between runs are flat and all detail stands in lists.
"""

from __future__ import annotations

from typing import Literal

from pipeline.core.files import Document

FILE = "explanations.json"
"""Beside the pictures, in the folder ``reports/explanations``."""


class MapScore(Document):
    """One method's map of one image, and how the answer follows it (Petsiuk et al. 2018)."""

    method: str
    """``grad_cam``, ``eigen_cam``, or ``random``: the null level, a map of the same coarseness that knows nothing."""
    file: str | None = None
    """The picture under the map, beside the report; a random map has none."""
    deletion: float
    """Mean probability of the answer while pixels are taken away, most important first; lower is better."""
    insertion: float
    """Mean probability of the answer while pixels are put back, most important first; higher is better."""


class Example(Document):
    """One image with its maps."""

    name: str
    domain: Literal["source", "target"]
    shown_for: str
    """The class it stands for: its label, or its answer where it has none."""
    label: str | None
    predicted: str
    """The answer that the maps explain."""
    confidence: float
    image: str
    """The prepared square as a picture, beside the report."""
    maps: list[MapScore]


class MethodScore(Document):
    """A method's mean over the examples."""

    method: str
    deletion: float
    insertion: float


class Explanations(Document):
    """``reports/explanations/explanations.json``; the pictures lie beside it."""

    layer: str | None
    """The layer whose output the maps show, by its name in the backbone; None where none has a spatial map."""
    grid: tuple[int, int] | None = None
    """Height and width of that output; the maps are enlarged from it."""
    examples: list[Example] = []
    """Class by class, the target's image first."""
    methods: list[MethodScore] = []
    notes: list[str] = []
    """What is missing and why, in sentences."""


class AttackScore(Document):
    """Accuracy under one attack within one ball."""

    attack: str
    """``fgsm`` or ``pgd``."""
    epsilon: int
    """Radius of the L∞ ball in grey levels of 255."""
    steps: int
    images: int
    """Attacked: those that the attacks before it had left standing."""
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """95 % Wilson interval."""


class CorruptionScore(Document):
    """Accuracy under one corruption at one severity."""

    corruption: str
    severity: int
    """1, 2 or 3."""
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """95 % Wilson interval."""


class Robustness(Document):
    """``reports/robustness.json``. Rates in [0, 1] on labelled test images, by torch; None where nothing was tried."""

    images: int
    """Labelled test images that were attacked and corrupted."""
    clean_accuracy: float | None = None
    """On the same images, unchanged."""
    clean_accuracy_low: float | None = None
    clean_accuracy_high: float | None = None
    fgsm_2_accuracy: float | None = None
    pgd_2_accuracy: float | None = None
    fgsm_8_accuracy: float | None = None
    pgd_8_accuracy: float | None = None
    """Under attacks of at most 2/255 or 8/255 per channel of a pixel; FGSM's figures count FGSM alone, PGD's
    everything that the smaller radius and FGSM broke, too."""
    corruption_accuracy: float | None = None
    """Mean over all corruptions and severities."""
    corruption_accuracy_low: float | None = None
    corruption_accuracy_high: float | None = None
    """95 % bootstrap interval over images."""
    corruption_ratio: float | None = None
    """``corruption_accuracy`` over ``clean_accuracy``: 1 is unharmed."""
    worst_corruption_accuracy: float | None = None
    """Of the corruption that harms most, mean over its severities."""

    attacks: list[AttackScore] = []
    corruptions: list[CorruptionScore] = []
    worst_corruption: list[str] = []
    """Its name, or nothing."""
    notes: list[str] = []
    """What was done and what was not, in sentences."""
