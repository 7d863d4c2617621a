"""What all strategies that train on two domains at once have in common, as parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.core.params import PluginParams


class TwoDomainParams(PluginParams):
    """How long, how fast, and whose BatchNorm statistics. Defaults are meant for AdamW."""

    epochs: int | None = Field(None, gt=0)
    """Passes over the source's images (the labelled ones, where there is no source); null takes as many as make some
    1,200 steps, 300 for images over 64 px."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of the head, and of what is trained beside the network."""
    backbone_factor: float | None = Field(None, gt=0)
    """The backbone's rate as a share of the head's; null: 0.1 for published architectures, 1 for small_cnn, which has
    little to preserve."""
    weight_decay: float = Field(1e-3, ge=0)
    batch_norm: Literal["per_domain", "eval"] = "per_domain"
    """``per_domain``: each domain is normalised by its own statistics, and the network ends with the target's.
    ``eval``: statistics stay as pretrained. Without BatchNorm there is no difference."""


class AdaptationParams(TwoDomainParams):
    """Also, how much the target's unlabelled images count."""

    trade_off: float = Field(1.0, ge=0)
    """Weight of what brings the domains together, against 1 of the labelled images' cross-entropy."""
