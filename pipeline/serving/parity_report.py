"""What the comparison of file and network found; apart from the comparing, because the stages after it only read."""

from __future__ import annotations

from typing import Literal

from pipeline.core.files import Document
from pipeline.serving.int8_trial import Quantisation

FLIPS = 3
"""So many comparisons on one image may fall to the other side, between torch and the file or between two machines."""

CONTINUOUS = 1e-4
"""A probability that differs by more has met a comparison that fell to the other side."""


class BatchParity(Document):
    """One batch size."""

    batch_size: int
    images: int
    sizes: int
    """Distinct heights and widths among the images."""
    disagreements: int
    """Images on which the two name different classes, ties left out."""
    ties: int = 0
    """Images on which they name different classes that the network holds for all but equal; 0 where ``step`` is 0."""
    jumps: int = 0
    """Images with a probability that differs by more than ``CONTINUOUS``."""
    max_probability_delta: float


class ParityReport(Document):
    """``reports/parity.json``: the float32 file against the network."""

    images: int
    """Distinct images compared."""
    split: str
    """``test``, or ``train`` where there is no test image."""
    disagreements: int
    """Over all batch sizes; the same image counts once per batch size."""
    ties: int = 0
    """Likewise."""
    jumps: int = 0
    """Images, over all batch sizes, on which a comparison of the head fell to the other side."""
    max_probability_delta: float
    """Largest absolute difference of any probability, over all batch sizes."""
    step: float = 0.0
    """Largest change of a probability that one flipped comparison can cause; 0 for continuous heads."""
    against: Literal["network", "features"] = "network"
    """At batch 1: what the network answers, or its head to the features that the same backbone has computed before."""
    batches: list[BatchParity]
    quantisation: Quantisation | None = None
    """Where an int8 file was tried: what it cost, and whether it ships in the place of the float32 file."""
