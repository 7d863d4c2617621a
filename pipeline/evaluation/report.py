"""The reports of the evaluate stage: numbers for ``dvc metrics show``, details for gates, the card and the report.

``dvc metrics show`` makes one column of every number or text that it finds in a mapping and passes over lists and
nulls: so the figures to compare between runs are flat, and all detail stands in lists.
"""

from __future__ import annotations

from pipeline.core.files import Document


class ClassScore(Document):
    """One class on the test images. Rates are None where they do not exist: no such image, or never predicted."""

    label: str
    images: int
    precision: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    """95 % Wilson interval of the recall."""
    f1: float | None
    champion_recall: float | None = None


class SliceScore(Document):
    """Accuracy on the test images that share one value of one column (``domain``, or a column of the user's)."""

    column: str
    value: str
    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """95 % Wilson interval."""
    champion_accuracy: float | None = None


class SliceGap(Document):
    """How far apart two values of one column are: the pair whose difference is surest.

    Of the pair with the largest lower end, not of the extremes: the value with the lowest accuracy may have three
    images and hide a gap that is certain. With slices of like size it is the best and the worst.
    """

    column: str
    slices: int
    """Values of the column; the interval holds for all their pairs at once."""
    best: str
    worst: str
    gap: float
    """Accuracy of ``best`` minus that of ``worst``."""
    gap_low: float
    gap_high: float
    """95 % Newcombe interval, its level raised for the number of pairs (Bonferroni)."""


class Comparison(Document):
    """The challenger against another answerer on the same images."""

    against: str
    """``champion`` or ``baseline``."""
    name: str
    """What it is: ``digits v3``, ``nearest class mean on frozen features``."""
    images: int
    accuracy: float
    """Of the other."""
    gain: float
    """Challenger's accuracy minus the other's."""
    gain_low: float
    gain_high: float
    """95 % paired bootstrap interval."""
    fixed: int
    """Images that the challenger alone gets right."""
    broken: int
    """Images that the other alone gets right."""
    problem: str | None = None
    """Why the comparison does not cover everything, in a sentence; None where it does."""


class ReliabilityBin(Document):
    """Test images whose confidence lies in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


class Suspect(Document):
    """One image whose label is in doubt."""

    id: str
    name: str
    split: str
    given: str
    likelier: str
    """The class that its features speak for."""
    confidence: float
    """Probability of that class by a classifier that was fitted to all other images."""


class LabelReview(Document):
    """Labels of the target's train and val splits against features; see :mod:`pipeline.evaluation.suspects`."""

    images: int
    """Labels that were looked at."""
    suspects: int
    """Of them in doubt."""
    accuracy: float
    """Share of the labels that the classifier behind it agrees with, each image left out once: how far to trust it."""
    trusted: bool = True
    """Is it right often enough for its doubts to count? If not, there are no suspects."""
    unjudged: list[str]
    """Classes with too few labelled images to say anything."""
    named: list[Suspect]
    """The surest, first ones first."""


class Metrics(Document):
    """``reports/metrics.json``. Rates in [0, 1]; ``_low`` and ``_high`` bound 95 % intervals over test images: Wilson's
    of the accuracy, Price and Bonett's of the balanced accuracy, by bootstrap of F1.

    Everything is None where no labelled test image exists; ``notes`` then says so.
    """

    images: int
    """Labelled test images that were scored."""
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_low: float | None = None
    balanced_accuracy_high: float | None = None
    precision_macro: float | None = None
    recall_macro: float | None = None
    f1_macro: float | None = None
    f1_macro_low: float | None = None
    f1_macro_high: float | None = None
    precision_weighted: float | None = None
    recall_weighted: float | None = None
    f1_weighted: float | None = None
    worst_class_recall: float | None = None
    top5_accuracy: float | None = None
    """From six classes on."""
    ece: float | None = None
    """Expected calibration error, 15 equal bins (Guo et al. 2017)."""
    brier: float | None = None
    """Sum over classes of the squared error, in [0, 2]."""
    source_accuracy: float | None = None
    """On the source's held-out images: what the transfer kept of the source domain."""
    source_images: int = 0
    baseline_accuracy: float | None = None
    gain_over_baseline: float | None = None
    champion_accuracy: float | None = None
    gain_over_champion: float | None = None
    champion_balanced_accuracy: float | None = None
    champion_f1_macro: float | None = None
    champion_ece: float | None = None
    champion_brier: float | None = None
    model_size_mb: float
    champion_size_mb: float | None = None
    leaked_images: int = 0
    """Test images that are also, by content or group, among the images trained on."""
    suspect_labels: int | None = None
    """Labels in train and val that are in doubt; None where too few are labelled to tell."""

    classes: list[str]
    confusion: list[list[int]] = []
    """Rows: actual class; columns: predicted class; in the order of ``classes``."""
    per_class: list[ClassScore] = []
    slices: list[SliceScore] = []
    gaps: list[SliceGap] = []
    """One per column of the user's with at least two values."""
    comparisons: list[Comparison] = []
    reliability: list[ReliabilityBin] = []
    leaks: list[str] = []
    """Names of some of the leaked images."""
    label_review: list[LabelReview] = []
    """One, or none where too few images are labelled."""
    champion: list[str] = []
    """What the champion is called and the sha256 of its file; empty where there is none."""
    notes: list[str] = []
    """What is missing and why, in sentences."""

    def comparison(self, against: str) -> Comparison | None:
        """The comparison against ``champion`` or ``baseline``, if it was made."""
        return next((entry for entry in self.comparisons if entry.against == against), None)


class Latency(Document):
    """``reports/latency.json``: one image at a time on this machine's CPU; a clock's reading, never equal twice."""

    p50_ms: float
    p95_ms: float
    champion_p50_ms: float | None = None
    champion_p95_ms: float | None = None
    runs: int
    """Timed calls of each model, after warming up; the two take turns."""
    height_px: int
    width_px: int
    """Size of the image that was used."""
