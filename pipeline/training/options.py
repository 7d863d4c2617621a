"""How the engine runs, whatever the strategy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.core.device import Threads
from pipeline.core.params import Params

Augment = Literal["auto", "none", "affine", "photo"]
"""``affine``: small rotations, scalings and shifts, for digits and symbols, where a mirror image is another thing.
``photo``: random crops, mirroring, colour. ``auto``: affine where preprocessing stretches, photo where it crops."""


class EngineOptions(Params):
    """Shared by every gradient strategy and by pretraining."""

    batch_size: int = Field(64, gt=0)
    """Images per optimizer step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """``sgd`` has momentum 0.9; its good rates are some ten times AdamW's."""
    augment: Augment = "auto"
    clip_norm: float | None = Field(1.0, gt=0)
    """Gradients longer than this are scaled down to it; null never clips."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 on CUDA cards that have it, else float32."""
    threads: Threads = "auto"
    """CPU threads of torch. Sums over more threads round differently, so equal digests need the same kind of machine
    (processor, device, torch build) and the same count. ``auto`` gives larger images one thread per core: name a number
    where machines of different sizes shall agree."""
    memory_mb: int = Field(2048, gt=0)
    """Decoded images are kept up to this, on a GPU where they take at most a quarter of what is free there, else in
    main memory; a larger set is decoded anew for every batch. Processes that train together on a machine divide it. As
    much again may go to the outputs of blocks that a phase leaves frozen, so that they are computed once: those for
    validation images and, with ``augment: none``, for training images. Processes that train together keep none."""
    min_steps_per_epoch: int = Field(10, gt=0)
    """An epoch passes over a small set several times until it has taken this many steps."""
