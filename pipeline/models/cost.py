"""What one image costs a backbone, counted and not timed: equal on every machine."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.network import build_backbone


def multiply_adds(name: str, size_px: int) -> int:
    """Multiplications with their additions for one forward pass of one image [3, size_px, size_px], head excluded.

    Counted operator by operator on tensors that have a shape and no content, so that it takes no time.
    """
    with torch.device("meta"):
        network = build_backbone(name).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, size_px, size_px, device="meta"))
    return counter.get_total_flops() // 2
