"""Where the network looks: class activation maps, and whether the answer really follows them.

* Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391): ReLU(Σₖ αₖ Aₖ), αₖ the mean gradient of the
  class's logit over channel k of the activations A. Needs a head that a gradient passes through.
* EigenCAM (Muhammad & Yeasin 2020, https://arxiv.org/abs/2008.00299): the activations' projection on their first right
  singular vector. No class and no gradient: what stands out to the backbone, whatever the head makes of it.
* Deletion and insertion (Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421): the mean probability of the answer
  while pixels are taken away, or put back, in the order of the map. A map that shows what mattered has a low deletion
  and a high insertion score; a random map is the null level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.network import Network

Probability = Callable[[Tensor], Tensor]
"""Normalised images [B, 3, S, S] → probability [B] of the answer that is explained."""

CURVE_STEPS = 8
"""Parts in which pixels are taken away and put back."""


class SpatialLayer(NamedTuple):
    """A layer whose output still says where in the image something is."""

    name: str
    """Of the module, in the backbone."""
    grid: tuple[int, int]
    """Height and width of its output."""
    skipped: int
    """Tokens before the grid's (a class token); 0 for a map of channels."""
    is_tokens: bool
    """[B, tokens, C] rather than [B, C, h, w]."""

    def maps(self, output: Tensor) -> Tensor:
        """The layer's output, or its gradient, as maps [B, C, h, w]."""
        if not self.is_tokens:
            return output
        return output[:, self.skipped :].transpose(1, 2).unflatten(2, self.grid)


class _Output(NamedTuple):
    """What a module returned; ``value`` is part of the graph."""

    layer: SpatialLayer
    value: Tensor


def find_layer(backbone: nn.Module, images: Tensor) -> SpatialLayer | None:
    """The last layer with a spatial output that the features depend on; None where there is none.

    Spatial are maps [B, C, h, w] with h, w > 1 and, in transformers, tokens [B, T, C] whose number, less a class token,
    is a square. "Last" alone would not do for the latter: behind the last attention nothing but the class token is
    read, and the gradient at the patches is zero.

    Args:
        backbone: [B, 3, S, S] → features [B, D], in eval mode.
        images: one or two of the size in use.
    """
    inputs = images[:1].detach().requires_grad_(True)
    with torch.enable_grad(), _recording(backbone) as outputs:
        features = backbone(inputs).flatten(1)
        # Uneven weights: LayerNorm makes the plain sum of the features a constant.
        total = (features * torch.linspace(-1, 1, features.shape[1], device=features.device)).sum()
    for output in reversed(outputs):
        (gradient,) = torch.autograd.grad(total, output.value, retain_graph=True, allow_unused=True)
        if gradient is not None and bool(output.layer.maps(gradient).any()):
            return output.layer
    return None


@contextmanager
def _recording(backbone: nn.Module) -> Iterator[list[_Output]]:
    """Collect every spatial output, in the order in which modules finish."""
    outputs: list[_Output] = []
    hooks = [
        module.register_forward_hook(_recorder(name, outputs)) for name, module in backbone.named_modules() if name
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _recorder(name: str, outputs: list[_Output]) -> Callable[[nn.Module, object, object], None]:
    def hook(module: nn.Module, inputs: object, output: object) -> None:
        layer = _as_spatial(name, output)
        if layer is not None:
            assert isinstance(output, Tensor)
            outputs.append(_Output(layer, output))

    return hook


def _as_spatial(name: str, output: object) -> SpatialLayer | None:
    if not isinstance(output, Tensor) or not output.requires_grad:
        return None
    if output.ndim == 4 and min(output.shape[2:]) > 1:
        return SpatialLayer(name, (output.shape[2], output.shape[3]), 0, is_tokens=False)
    if output.ndim == 3:
        for skipped in (0, 1):
            side = math.isqrt(output.shape[1] - skipped)
            if side > 1 and side * side == output.shape[1] - skipped:
                return SpatialLayer(name, (side, side), skipped, is_tokens=True)
    return None


def is_differentiable(network: Network) -> bool:
    """Whether a gradient passes through the head; a forest of trees has none."""
    return bool(getattr(network.head, "differentiable", True))


def maps_of(network: Network, layer: SpatialLayer, images: Tensor) -> dict[str, Tensor]:
    """Each method's maps for the network's own answers, [B, S, S] in [0, 1], by the method's name.

    Grad-CAM is left out where the head has no gradient.

    Args:
        network: in eval mode.
        layer: of its backbone, from :func:`find_layer`.
        images: normalised, [B, 3, S, S].
    """
    inputs = images.detach().requires_grad_(True)
    kept: list[Tensor] = []
    module = network.backbone.get_submodule(layer.name)
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            logits = network(inputs)
    finally:
        handle.remove()
    found = {}
    if is_differentiable(network):
        score = logits.gather(1, logits.argmax(1, keepdim=True)).sum()
        (gradient,) = torch.autograd.grad(score, kept[-1])
        found["grad_cam"] = grad_cam(layer.maps(kept[-1].detach()), layer.maps(gradient))
    found["eigen_cam"] = eigen_cam(layer.maps(kept[-1].detach()))
    return {method: enlarged(maps, images.shape[-1]) for method, maps in found.items()}


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Maps [B, h, w], at least 0, of activations and their gradients [B, C, h, w]."""
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()


def eigen_cam(activations: Tensor) -> Tensor:
    """Maps [B, h, w], at least 0, of activations [B, C, h, w].

    Computed from the positions' products [hw, hw]: the first left singular vector times its singular value is the
    projection wanted. Its sign is free; the map is taken so that it sums to something positive.
    """
    height, width = activations.shape[2:]
    positions = activations.flatten(2).transpose(1, 2).cpu().double()  # some accelerators have no float64
    values, vectors = torch.linalg.eigh(positions @ positions.transpose(1, 2))
    projected = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    signs = projected.sum(1, keepdim=True).sign()
    return (projected * signs).relu().to(activations).unflatten(1, (height, width))


def enlarged(maps: Tensor, side_px: int) -> Tensor:
    """Maps [B, h, w] as [B, side_px, side_px], each from 0 to 1; a flat map is all zeros."""
    large = functional.interpolate(maps[:, None], size=(side_px, side_px), mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > low, (large - low) / (high - low).clamp(min=1e-30), torch.zeros_like(large))


def random_map(grid: tuple[int, int], side_px: int, seed: int) -> Tensor:
    """A map [side_px, side_px] that knows nothing, as coarse as the others; equal for equal arguments."""
    generator = torch.Generator().manual_seed(seed)
    return enlarged(torch.rand((1, *grid), generator=generator), side_px)[0]


class Curves(NamedTuple):
    """How the probability of the answer follows a map."""

    deletion: float
    insertion: float


def follow(probability: Probability, image: Tensor, saliency: Tensor, steps: int = CURVE_STEPS) -> Curves:
    """Deletion and insertion scores of one map: areas under the two curves, in [0, 1].

    Deleted pixels become the mean colour of the normalisation (zeros); insertion starts from the image out of focus.

    Args:
        probability: of the answer that the map explains.
        image: normalised, [3, S, S].
        saliency: [S, S]; equal values keep the order of pixels.
        steps: parts in which pixels change hands.
    """
    deleted = _between(image, torch.zeros_like(image), saliency, steps)
    inserted = _between(blurred(image), image, saliency, steps)
    with torch.no_grad():
        curve = probability(torch.cat([deleted, inserted])).cpu().double()
    return Curves(_area(curve[: steps + 1]), _area(curve[steps + 1 :]))


def _between(start: Tensor, end: Tensor, saliency: Tensor, steps: int) -> Tensor:
    """[steps + 1, 3, S, S]: from ``start`` to ``end``, the most important pixels first."""
    order = saliency.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    counts = torch.tensor([len(order) * step // steps for step in range(steps + 1)], device=order.device)
    is_changed = (rank[None] < counts[:, None]).view(-1, 1, *saliency.shape)
    return torch.where(is_changed, end[None], start[None])


def _area(curve: Tensor) -> float:
    """Mean height by the trapezoidal rule."""
    return float(((curve[:-1] + curve[1:]) / 2).mean())


def blurred(image: Tensor) -> Tensor:
    """[3, S, S] out of focus: Gaussian, a sixteenth of the side."""
    side_px = image.shape[-1]
    deviation_px = side_px / 16
    reach = min(side_px - 1, round(2 * deviation_px))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=image.device) / deviation_px) ** 2)
    kernel = (kernel / kernel.sum()).to(image.dtype)
    padded = functional.pad(image[:, None], (reach, reach, reach, reach), mode="reflect")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]
