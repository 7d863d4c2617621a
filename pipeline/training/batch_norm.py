"""BatchNorm statistics, estimated anew from images: the whole of AdaBN, and the last step of training on two domains.

Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation" (2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from pipeline.models.network import Network
from pipeline.training.engine import BATCH_NORM
from pipeline.training.objectives import Images


@torch.no_grad()
def reestimate(
    network: Network, images: Images, device: torch.device, *, batch_size: int = 256, most: int | None = None
) -> bool:
    """Set every running mean and variance to those of ``images``, unaugmented; weights stay. Ends in eval mode.

    Images come in an order drawn once and for all: by name they often lie class by class, and a batch of one class is
    centred on that class. ``most`` stops after that many.
    Returns False, having changed nothing, where the network has no BatchNorm or there are fewer than two images.
    """
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORM)]
    if not norms or len(images) < 2:
        return False
    network.eval()
    order = np.random.default_rng(0).permutation(len(images))[:most]
    with momentum_of(norms, None):  # the plain mean over all batches, which are of one size but for one image
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        for views in images.bank.plain_views(np.array_split(order, math.ceil(len(order) / batch_size)), device):
            network.backbone(views)
    network.eval()
    return True


@contextmanager
def momentum_of(norms: Sequence[BatchNorm], momentum: float | None) -> Iterator[None]:
    """In the block these BatchNorm layers have this momentum, after it their own."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own
