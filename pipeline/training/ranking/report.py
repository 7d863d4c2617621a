"""``ranking.json``: the candidate backbones in order, and why one of them was taken."""

from __future__ import annotations

from typing import Literal

from pipeline.core.files import Document


class RankedBackbone(Document):
    """One candidate. Rates are fractions; everything but ``features_s`` and ``images_computed`` is reproducible."""

    candidate: int
    """Its number in ``backbone.candidates``, from 0."""
    name: str
    weights: str
    """Where they come from, in words: ``torchvision IMAGENET1K_V1``."""
    digest: str
    """sha256 of the weights."""
    image_size_px: int
    feature_dim: int
    accuracy: float
    """Share of the images that the probe of the other folds got right: what a probe may be expected to reach."""
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95 % interval."""
    behind: float
    """Accuracy of the most accurate candidate less this one's."""
    behind_low: float
    behind_high: float
    """Bootstrap 95 % interval over the same images, answers paired."""
    is_tied: bool
    """May be taken for its price: it cannot be told from the most accurate, and is not far behind."""
    penalty: float
    """The probe's, chosen by the held-out cross-entropy."""
    logme: float
    h_score: float
    size_mb: float
    """Weights, float32, without a head."""
    multiply_adds: int
    """For one image: what a tie is decided by."""
    features_s: float
    """Seconds that the features took here; next to nothing where the cache had them."""
    images_computed: int
    """Images that the cache did not have."""
    is_chosen: bool

    @property
    def title(self) -> str:
        return f"{self.name} ({self.weights}, {self.image_size_px} px)"


class Ranking(Document):
    """The most accurate first; without rows where ``backbone.candidates`` names none."""

    rows: list[RankedBackbone] = []
    images: int = 0
    classes: int = 0
    labels_from: Literal["target", "source"] = "target"
    split: Literal["train", "val"] = "train"
    folds: int = 0
    reason: str = ""
    """Why the chosen one, in a sentence."""
    notes: list[str] = []
    """What the votes say, and what to beware of."""

    @property
    def table(self) -> list[str]:
        """Lines for a terminal, aligned."""
        if not self.rows:
            return []
        cells = [_HEADINGS, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return ["  ".join(_aligned(row, widths)).rstrip() for row in cells]


_HEADINGS = ("", "backbone", "weights", "px", "accuracy", "95 %", "LogME", "H-score", "features", "MB", "G mult-adds")
_LEFT = 3
"""So many columns hold words; the others hold numbers and are set to the right."""


def _cells(row: RankedBackbone) -> tuple[str, ...]:
    return (
        "→" if row.is_chosen else "",
        row.name,
        row.weights,
        f"{row.image_size_px}",
        f"{row.accuracy:.1%}",
        f"{100 * row.accuracy_low:.1f}–{100 * row.accuracy_high:.1f}",
        f"{row.logme:.3f}",
        f"{row.h_score:.2f}",
        f"{row.features_s:.1f} s" if row.images_computed else "cached",
        f"{row.size_mb:.1f}",
        f"{row.multiply_adds / 1e9:.2f}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if place < _LEFT else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
