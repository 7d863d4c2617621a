"""Losses that bring two domains' features or answers together, as pure functions, and the modules of adversaries."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL_WIDTHS = (-3, -2, -1, 0, 1)
"""Powers of two by which the kernels of :func:`mk_mmd_loss` are narrower or wider than the mean distance."""

HIDDEN = 1024
"""Units of each hidden layer of a domain discriminator."""

LARGEST_PRODUCT = 4096
"""Features times classes up to which :class:`Joined` keeps every product."""

SMALLEST_SUM = 1e-12
"""What a row of the class confusion is at least divided by: no image may have a trace of a class's probability."""


def entropy(probabilities: Tensor) -> Tensor:
    """−Σ_k p_k log p_k of each row, in nats: [B, classes] → [B]."""
    return -(probabilities * (probabilities + 1e-8).log()).sum(dim=1)


def mcc_loss(logits: Tensor, temperature: float) -> Tensor:
    """Minimum class confusion of unlabelled images (Jin et al., 2020): logits [B, K] → scalar ≥ 0.

    p = softmax(logits / temperature); sure images count more: w = 1 + exp(−entropy(p)), with mean 1.
    C = pᵀ diag(w) p [K, K] says which classes are answered together; each row is divided by its sum, and the loss is
    what lies beside the diagonal: Σ_{j≠k} C_jk / K.
    """
    probabilities = torch.softmax(logits / temperature, dim=1)
    weights = 1 + torch.exp(-entropy(probabilities).detach())
    weights = weights / weights.mean()
    confusion = probabilities.T @ (weights[:, None] * probabilities)
    confusion = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=SMALLEST_SUM)
    return (confusion.sum() - confusion.trace()) / logits.shape[1]


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """‖Cov(source) − Cov(target)‖²_F / 4D² (Sun and Saenko, 2016): features [B, D] and [M, D] → scalar ≥ 0."""
    return (_covariance(source) - _covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def _covariance(features: Tensor) -> Tensor:
    """[B, D] → [D, D]; of one row, zeros."""
    centred = features - features.mean(dim=0, keepdim=True)
    return centred.T @ centred / max(1, len(features) - 1)


def mk_mmd_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared multi-kernel maximum mean discrepancy (Long et al., 2015): features [B, D] and [M, D] → scalar ≥ 0.

    k(x, x′) = Σ_w exp(−‖x − x′‖² / (2 · 2^w · m)) over w in −3…1, where m is the mean of ‖x − x′‖² over all pairs and
    taken as a constant; the loss is mean k(s, s′) + mean k(t, t′) − 2 · mean k(s, t). All pairs take part, each image's
    with itself too: the value is biased upwards but never negative.
    """
    rows = torch.cat([source, target])
    squares = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    width = 2 * squares.detach().mean().clamp(min=1e-12)
    kernel = torch.stack([torch.exp(-squares / (width * 2.0**power)) for power in KERNEL_WIDTHS]).sum(dim=0)
    count = len(source)
    same = kernel[:count, :count].mean() + kernel[count:, count:].mean()
    return same - 2 * kernel[:count, count:].mean()


def reversal_strength(progress: float) -> float:
    """λ = 2 / (1 + exp(−10 · progress)) − 1, from 0 to almost 1 (Ganin et al., 2016).

    A discriminator that knows nothing yet thus says nothing.
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reversal(torch.autograd.Function):
    """x → x; the gradient g → −strength · g."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reversed_gradient(values: Tensor, strength: float) -> Tensor:
    """``values`` themselves, any shape; on the way back their gradient is multiplied by −``strength``."""
    result: Tensor = _Reversal.apply(values, strength)
    return result


class Discriminator(nn.Sequential):
    """Which domain do these come from? [B, inputs] → logits [B], positive for the source."""

    def __init__(self, inputs: int, hidden: int = HIDDEN) -> None:
        super().__init__(
            *_layer(inputs, hidden),
            *_layer(hidden, hidden),
            nn.Linear(hidden, 1),
            nn.Flatten(0),
        )


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()


class Joined(nn.Module):
    """Features and answers as one: products f_i · p_k of all pairs (Long et al., 2018), features [B, D] and
    probabilities [B, K] → [B, ``outputs``].

    Where D · K is more than 4,096, random projections stand in for them: (f R_f) ∘ (p R_p) / √outputs, of which the
    expected inner products are equal. They are drawn once, from ``seed``.
    """

    def __init__(self, feature_dim: int, classes: int, seed: int) -> None:
        super().__init__()
        self.is_random = feature_dim * classes > LARGEST_PRODUCT
        self.outputs = HIDDEN if self.is_random else feature_dim * classes
        if self.is_random:
            generator = torch.Generator().manual_seed(seed)
            self.register_buffer("of_features", torch.randn(feature_dim, HIDDEN, generator=generator))
            self.register_buffer("of_answers", torch.randn(classes, HIDDEN, generator=generator))

    of_features: Tensor
    of_answers: Tensor

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        if self.is_random:
            return (features @ self.of_features) * (probabilities @ self.of_answers) / math.sqrt(self.outputs)
        return (features[:, :, None] * probabilities[:, None, :]).flatten(1)


def domain_loss(
    of_source: Tensor, of_target: Tensor, source_weights: Tensor | None = None, target_weights: Tensor | None = None
) -> Tensor:
    """Mean over both domains of the discriminator's cross-entropy; logits [B] and [M] → scalar.

    Weights [B] and [M], of mean 1 in each domain, say how much each image counts; None counts all alike.
    """
    of_each = functional.binary_cross_entropy_with_logits
    source = of_each(of_source, torch.ones_like(of_source), weight=source_weights)
    return (source + of_each(of_target, torch.zeros_like(of_target), weight=target_weights)) / 2


def domain_accuracy(of_source: Tensor, of_target: Tensor) -> Tensor:
    """Share of each domain's images that the discriminator knows, averaged; ½ is a guess."""
    return ((of_source > 0).float().mean() + (of_target <= 0).float().mean()) / 2
