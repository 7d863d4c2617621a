"""How the network's answers stand against small changes of its input that are looked for (attacks).

Attacks move the prepared square, float [B, 3, S, S] in grey levels [0, 255], before it is normalised: ε then means the
same whatever mean and standard deviation the backbone wants. Both attacks stay in the L∞ ball of radius ε around the
image and within [0, 255].

* FGSM (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572): one step of ε along the sign of the loss's gradient.
* PGD (Madry et al. 2018, https://arxiv.org/abs/1706.06083): a random start in the ball, then steps of ε/4, each
  followed by the projection onto the ball.

Only what can change the figure is computed. An image answered wrongly needs no attack. PGD attacks what FGSM left
standing, and a larger ball only what the smaller one left: the accuracy at ε counts the images for which no attack
found a wrong answer *within* ε, and what was found within a smaller ball lies in the larger one. So nothing is
approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.device import SMALL_IMAGE_PX
from pipeline.core.seeding import derive

EPSILONS = (2, 8)
"""Radii of the balls, in grey levels of 255."""

STEPS_SMALL, STEPS_LARGE = 40, 10
"""Steps of PGD up to 64 px (as in the literature on such images) and beyond (each costs seconds on a CPU)."""

Logits = Callable[[Tensor], Tensor]
"""Prepared squares in [0, 255], [B, 3, S, S] → logits [B, classes]; differentiable."""


class Trial(NamedTuple):
    """What one attack within one ball did to one batch."""

    attack: str
    epsilon: int
    steps: int
    tried: Tensor
    """bool [B]: images that were still standing before it."""
    standing: Tensor
    """bool [B]: images still answered rightly after it and everything before it."""


def steps_for(side_px: int) -> int:
    """PGD's steps for squares of this side."""
    return STEPS_SMALL if side_px <= SMALL_IMAGE_PX else STEPS_LARGE


def attack(logits: Logits, squares: Tensor, labels: Tensor, starts: Tensor) -> list[Trial]:
    """Attack one batch with FGSM and PGD within each of :data:`EPSILONS`.

    Args:
        logits: the network behind normalisation.
        squares: prepared squares, float [B, 3, S, S] in [0, 255].
        labels: class numbers, int64 [B].
        starts: PGD's random starts, [B, 3, S, S] in [−1, 1]; see :func:`starts`.

    Returns:
        FGSM and PGD of each radius, smallest radius first.
    """
    steps = steps_for(squares.shape[-1])
    with torch.no_grad():
        right = logits(squares).argmax(1) == labels
    directions = _directions(logits, squares, labels, right)

    def withstands_fgsm(rows: Tensor, epsilon: int) -> Tensor:
        with torch.no_grad():
            return logits(fgsm(squares[rows], directions[rows], epsilon)).argmax(1) == labels[rows]

    def withstands_pgd(rows: Tensor, epsilon: int) -> Tensor:
        return pgd(logits, squares[rows], labels[rows], starts[rows], epsilon=epsilon, steps=steps).right

    standing = {"fgsm": right, "pgd": right}
    trials = []
    for epsilon in EPSILONS:
        for name, count, withstands in (("fgsm", 1, withstands_fgsm), ("pgd", steps, withstands_pgd)):
            tried = standing[name] & standing["fgsm"]
            standing[name] = tried.clone()
            if tried.any():
                standing[name][tried] = withstands(tried.nonzero()[:, 0], epsilon)
            trials.append(Trial(name, epsilon, count, tried, standing[name]))
    return trials


def _directions(logits: Logits, squares: Tensor, labels: Tensor, right: Tensor) -> Tensor:
    """Sign of the loss's gradient at the images answered rightly; FGSM of every radius goes that way."""
    directions = torch.zeros_like(squares)
    if right.any():
        directions[right] = _gradient(logits, squares[right], labels[right]).direction
    return directions


def fgsm(squares: Tensor, directions: Tensor, epsilon: float) -> Tensor:
    """The squares one step of ``epsilon`` along ``directions`` (signs), within [0, 255]."""
    return (squares + epsilon * directions).clamp(0, 255)


class Attacked(NamedTuple):
    """Where PGD ended."""

    squares: Tensor
    """[B, 3, S, S], in the ball and in [0, 255]."""
    right: Tensor
    """bool [B]: never answered wrongly on the way."""


def pgd(logits: Logits, squares: Tensor, labels: Tensor, starts: Tensor, *, epsilon: float, steps: int) -> Attacked:
    """Projected gradient descent from ``squares + epsilon * starts`` in steps of ε/4.

    An image is done as soon as it is answered wrongly: an example anywhere on the path is one.
    """
    low, high = (squares - epsilon).clamp(min=0), (squares + epsilon).clamp(max=255)
    moved = (squares + epsilon * starts).clamp(low, high)
    right = torch.ones(len(squares), dtype=torch.bool, device=squares.device)
    for _ in range(steps):
        rows = right.nonzero()[:, 0]
        if not len(rows):
            return Attacked(moved, right)
        found = _gradient(logits, moved[rows], labels[rows])
        right[rows] = found.answers == labels[rows]
        going, rows = right[rows], rows[right[rows]]
        stepped = moved[rows] + epsilon / 4 * found.direction[going]
        moved[rows] = stepped.clamp(low[rows], high[rows])
    rows = right.nonzero()[:, 0]
    if len(rows):
        with torch.no_grad():
            right[rows] = logits(moved[rows]).argmax(1) == labels[rows]
    return Attacked(moved, right)


class _Gradient(NamedTuple):
    """Signs of the cross-entropy's gradient [B, 3, S, S], and the answers [B] that came with it."""

    direction: Tensor
    answers: Tensor


def _gradient(logits: Logits, squares: Tensor, labels: Tensor) -> _Gradient:
    inputs = squares.detach().requires_grad_(True)
    with torch.enable_grad():
        answered = logits(inputs)
        loss = functional.cross_entropy(answered, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs)
    return _Gradient(gradient.sign(), answered.detach().argmax(1))


def starts(image_ids: Sequence[str], side_px: int, seed: int) -> Tensor:
    """Uniform noise in [−1, 1], float [B, 3, S, S]; each image's depends on its id and the seed alone."""
    return torch.stack([_start(image_id, side_px, seed) for image_id in image_ids])


def _start(image_id: str, side_px: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive(seed, "pgd", image_id))
    return 2 * torch.rand((3, side_px, side_px), generator=generator) - 1
