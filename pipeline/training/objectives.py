"""What a step of training minimises. The engine runs any of these; a strategy brings its own.

An objective is a module, so that what it trains beside the network (a domain discriminator, a second head) and what it
remembers (pseudo-labels) is checkpointed and resumed with everything else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.data.loading import ImageBank
from pipeline.models.network import Network
from pipeline.training.phases import Phase

View = Literal["plain", "random", "strong", "kept"]
"""``plain``: no augmentation; ``random``: as the options say; ``strong``: beyond that, with colour and a cut-out;
``kept``, for the engine alone: no image but what frozen blocks made of it (:mod:`pipeline.training.frozen_prefix`)."""

UNLABELLED = -1
"""Class number of an image without a label."""


class Images(NamedTuple):
    """Images and their class numbers, int64 of shape (n,); ``UNLABELLED`` where there is none or none may be seen."""

    bank: ImageBank
    labels: np.ndarray
    classes: np.ndarray | None = None
    """bool [classes], those that are taught; None: all. An image of another is a miss whatever is learnt: it tells no
    epoch from the next, and the surer a network becomes, the more its loss would grow."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def taught(self) -> np.ndarray:
        """bool [n], whether the class of each is."""
        return np.ones(len(self), dtype=bool) if self.classes is None else self.classes[self.labels]

    def in_order(self, batch_size: int) -> list[np.ndarray]:
        """Row numbers, int64 [batch_size], the last perhaps fewer: each image once."""
        return [np.arange(start, min(start + batch_size, len(self))) for start in range(0, len(self), batch_size)]

    @classmethod
    def unlabelled(cls, bank: ImageBank) -> Images:
        """Images without a label, or whose labels may not be seen."""
        return cls(bank, np.full(len(bank), UNLABELLED, dtype=np.int64))


class Stream(NamedTuple):
    """Images that come with each step beside those the engine trains on; a small set is passed over several times."""

    images: Images
    views: tuple[View, ...] = ("random",)
    """Each image comes in this many views, [B, 3, S, S] each."""
    batch_size: int | None = None
    """None takes the engine's."""


class Drawn(NamedTuple):
    """One step's images of a stream."""

    views: tuple[Tensor, ...]
    """Normalised float32 [B, 3, S, S] each, or what was kept, [B, ...]; in the stream's order of views."""
    labels: Tensor
    """int64 [B]"""
    rows: Tensor
    """int64 [B], where the images stand in the stream."""

    @property
    def images(self) -> Tensor:
        return self.views[0]


class Batch(NamedTuple):
    """What one step works with."""

    images: Tensor
    """Normalised float32 [B, 3, S, S]; outputs of frozen blocks, [B, ...], where the network begins behind these."""
    labels: Tensor
    """int64 [B]"""
    rows: Tensor
    """int64 [B], where the images stand in the training set."""
    streams: dict[str, Drawn]
    progress: float
    """Share of the phase's steps that lie behind, in [0, 1)."""


class Judgement(NamedTuple):
    """What an objective measured after an epoch; a breach makes the engine go back to the epoch before."""

    values: dict[str, float] = {}
    """For the curves, e.g. ``source_retention``."""
    breach: str | None = None
    """Why this epoch must not be kept, as a sentence."""


class Objective(nn.Module):
    """Base of all objectives; the defaults are those of one that only needs labelled images."""

    streams: dict[str, Stream]
    learning_rate: float = 0.0
    """Peak rate of the objective's own parameters."""
    needs_only_logits: bool = False
    """Does the loss do nothing with the batch's images but give them to the network, as a whole? Then a step may begin
    behind frozen blocks, with what these made of the images."""
    is_mean_over_rows: bool = False
    """Is the loss the mean of what each of the batch's images gives by itself, through one call of the network, with
    nothing remembered? Then several processes can share a step."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = {}

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Scalars by name: ``loss`` is minimised, the others are drawn as curves.

        Network and objective are in the modes that the phase asks for.
        """
        raise NotImplementedError

    def begin_epoch(self, network: Network, device: torch.device) -> None:
        """Called before each epoch, e.g. to renew pseudo-labels; anything kept must be a buffer."""

    def judge(self, network: Network, device: torch.device) -> Judgement:
        """Called after each epoch with the network in eval mode."""
        return Judgement()


class CrossEntropy(Objective):
    """mean_i( −log softmax(network(x_i))[y_i] ), with the phase's label smoothing."""

    needs_only_logits = True
    is_mean_over_rows = True

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        logits = network(batch.images)
        return {"loss": functional.cross_entropy(logits, batch.labels, label_smoothing=phase.label_smoothing)}
