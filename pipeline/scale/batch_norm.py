"""BatchNorm over the rows of all processes. ``torch.nn.SyncBatchNorm`` is that for CUDA; this runs on any device.

Ioffe and Szegedy, "Batch Normalization" (2015): with the mean m and the biased variance v of each channel over all
images and places of the batch, y = γ · (x − m) / √(v + ε) + β. Running statistics move as in torch, the variance
unbiased.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm


def share(network: nn.Module) -> None:
    """Let every BatchNorm of ``network`` use the statistics of all processes' rows while it is in training mode.

    Names and values in the state stay as they are.
    """
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(norm: BatchNorm, images: Tensor) -> Tensor:
    """[B, C, …] → the same shape and type; B is this process's part of the batch."""
    if not norm.training:
        return functional.batch_norm(
            images, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )
    values = images.float()
    over = [axis for axis in range(values.ndim) if axis != 1]
    shape = [1, -1, *[1] * (values.ndim - 2)]
    count = _summed(torch.full([], values.numel() / values.shape[1], device=values.device))
    mean = _summed(values.sum(over)) / count
    centred = values - mean.view(shape)
    variance = _summed(centred.square().sum(over)) / count
    _remember(norm, mean.detach(), variance.detach() * count / (count - 1))
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        return (centred * (scale * norm.weight).view(shape) + norm.bias.view(shape)).to(images.dtype)
    return (centred * scale.view(shape)).to(images.dtype)


class _Sum(torch.autograd.Function):
    """Over all processes. What each makes of the sum counts, so gradients are summed likewise."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(_, gradient)


def _summed(values: Tensor) -> Tensor:
    return _Sum.apply(values)


@torch.no_grad()
def _remember(norm: BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, where the layer keeps any."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    pace = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, pace)
    norm.running_var.lerp_(variance, pace)
