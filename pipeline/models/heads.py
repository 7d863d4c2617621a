"""What may sit on the backbone: modules that turn features [B, feature_dim] into logits [B, classes].

Every head is plain tensors and operations that torch and ONNX both have, so that a trained network is kept in one
safetensors file, nothing is ever unpickled, and the exporter needs no case per head. softmax(logits) are the head's
probabilities throughout.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST = 1e-6
"""Probability of a class that no tree and no neighbour votes for: its logarithm must be finite."""

State = dict[str, Tensor]


class LinearHead(nn.Linear):
    """features @ weight.T + bias. A new one is all zeros."""

    kind: ClassVar[str] = "linear"
    differentiable: ClassVar[bool] = True
    step: ClassVar[float] = 0.0
    """Largest change of a probability that one comparison falling to the other side can cause; see the parity gate."""

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__(feature_dim, classes)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    @classmethod
    def restored(cls, state: State) -> Self:
        """A head with these values."""
        head = cls(state["weight"].shape[1], state["weight"].shape[0])
        head.load_state_dict(state)
        return head


class _Fixed(nn.Module):
    """A head of buffers only: fitted in closed form, never by gradient."""

    kind: ClassVar[str]
    differentiable: ClassVar[bool] = True
    step: float = 0.0

    def __init__(self, **values: Tensor) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, value)

    @classmethod
    def restored(cls, state: State) -> Self:
        """A head with these values."""
        return cls(**state)


class CosineHead(_Fixed):
    """Nearest class mean: scale · cos(features − centre, prototype of each class).

    centre [feature_dim], prototypes [classes, feature_dim] of length 1, scale [].
    """

    kind = "cosine"
    centre: Tensor
    prototypes: Tensor
    scale: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * functional.normalize(features - self.centre, dim=1) @ self.prototypes.T


class NeighboursHead(_Fixed):
    """k nearest neighbours by cosine, their votes weighted by exp(similarity / temperature) (Wu et al., 2018).

    centre [feature_dim], exemplars [n, feature_dim] of length 1, votes [n, classes] one-hot, k [] int64,
    temperature [].
    """

    kind = "neighbours"
    differentiable = False
    """Where all votes agree the gradient vanishes: an attack or a map by it would be noise that looks like strength."""
    centre: Tensor
    exemplars: Tensor
    votes: Tensor
    k: Tensor
    temperature: Tensor

    def __init__(self, **values: Tensor) -> None:
        super().__init__(**values)
        self._k = int(values["k"])
        # At the border of the k nearest two may change places: one vote of k at most, and three steps are allowed.
        self.step = 1 / (3 * self._k)

    def forward(self, features: Tensor) -> Tensor:
        similarity = functional.normalize(features - self.centre, dim=1) @ self.exemplars.T
        nearest, rows = similarity.topk(self._k, dim=1)
        weights = torch.softmax(nearest / self.temperature, dim=1)
        return torch.log((weights[:, :, None] * self.votes[rows]).sum(dim=1) + SMALLEST)


class ForestHead(_Fixed):
    """The mean of the leaves that trees send the features to.

    Trees are padded to one size: feature [trees, nodes] int64 (which one is compared), threshold [trees, nodes], below
    and above [trees, nodes] int64 (the node that follows; a leaf follows itself), leaves [trees, nodes, classes]
    (class shares), depth [] int64 (comparisons to the deepest leaf).
    """

    kind = "forest"
    differentiable = False
    feature: Tensor
    threshold: Tensor
    below: Tensor
    above: Tensor
    leaves: Tensor
    depth: Tensor

    def __init__(self, **values: Tensor) -> None:
        super().__init__(**values)
        self._depth = int(values["depth"])
        self.step = 1 / len(self.feature)

    def forward(self, features: Tensor) -> Tensor:
        trees, nodes, classes = self.leaves.shape
        at = torch.zeros(features.shape[0], trees, dtype=torch.int64, device=features.device)
        first = torch.arange(trees, device=features.device) * nodes  # of each tree, where all nodes lie in one row
        for _ in range(self._depth):
            place = at + first
            value = features.gather(1, self.feature.reshape(-1)[place])
            is_below = value <= self.threshold.reshape(-1)[place]
            at = torch.where(is_below, self.below.reshape(-1)[place], self.above.reshape(-1)[place])
        shares = self.leaves.reshape(-1, classes)[at + first]
        return torch.log(shares.mean(dim=1) + SMALLEST)


Head = LinearHead | CosineHead | NeighboursHead | ForestHead

_KINDS: dict[str, type[Head]] = {head.kind: head for head in (LinearHead, CosineHead, NeighboursHead, ForestHead)}


def restored(kind: str, state: State) -> Head:
    """The head that ``state`` was taken from; ``kind`` is its class's."""
    return _KINDS[kind].restored(state)
