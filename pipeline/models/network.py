"""The network: a backbone and a head, its parameter groups, and how a trained one is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline import __version__
from pipeline.core import digests
from pipeline.core.files import Document, replacing
from pipeline.core.lean_imports import without_compiler
from pipeline.core.seeding import derive
from pipeline.data.preprocessing import Preprocessing
from pipeline.models import heads
from pipeline.models.backbones import Backbone, backbone

HEAD = "head"
"""The parameter group of the new output layer; the others are named after the backbone's blocks."""

State = dict[str, Tensor]


def build_backbone(name: str, seed: int = 0) -> nn.Module:
    """The architecture ``name`` with random weights and its head removed: [B, 3, H, W] → features [B, feature_dim].

    Equal seeds give equal weights; the global random state is left alone.
    """
    row = backbone(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "backbone", name))
        module = _architecture(row)
    parent, _, attribute = row.head.rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())
    return module


def _architecture(row: Backbone) -> nn.Module:
    if row.home == "graftline":
        from pipeline.models.small_cnn import small_cnn

        return small_cnn()
    with without_compiler():
        from torchvision import models

    # The auxiliary classifier is of no use to transfer; init_weights=False skips a slow truncated-normal draw.
    options = {"aux_logits": False, "init_weights": False} if row.name == "inception_v3" else {}
    return models.get_model(row.name, weights=None, **options)


class Network(nn.Module):
    """Normalised images, float [B, 3, S, S] → logits, float [B, classes]. A new head is linear and all zeros."""

    head: heads.Head

    def __init__(self, backbone_name: str, body: nn.Module, classes: int) -> None:
        super().__init__()
        self.row = backbone(backbone_name)
        self.backbone = body
        self.head = heads.LinearHead(self.row.feature_dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the parameter groups from input to output: the backbone's blocks, then ``head``."""
        return (*self.row.blocks, HEAD)

    def modules_of(self, group: str) -> Iterator[nn.Module]:
        """Every module inside ``group``, parents before children."""
        for path in self._paths(group):
            part = _at(self, path)
            if isinstance(part, nn.Module):
                yield from part.modules()

    def parameters_of(self, group: str) -> dict[str, nn.Parameter]:
        """The group's parameters by their full name."""
        paths = self._paths(group)
        return {name: value for name, value in self.named_parameters() if _under(name, paths)}

    def state_of(self, group: str) -> State:
        """The group's parameters and buffers (BatchNorm statistics) by their full name; no copies."""
        paths = self._paths(group)
        return {name: value for name, value in self.state_dict().items() if _under(name, paths)}

    def end_of(self, group: str) -> nn.Module | None:
        """The module that gives the group's output; None where that is not one module's."""
        last = _at(self, self._paths(group)[-1])
        return last if isinstance(last, nn.Module) else None

    def _paths(self, group: str) -> tuple[str, ...]:
        return (HEAD,) if group == HEAD else tuple(f"backbone.{path}" for path in self.row.blocks[group])

    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Replace the head by a linear one: ``weight`` [classes, feature_dim], ``bias`` [classes]."""
        self.head = heads.LinearHead.restored({"weight": weight, "bias": bias})


def _at(module: nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _under(name: str, paths: tuple[str, ...]) -> bool:
    return any(name == path or name.startswith(f"{path}.") for path in paths)


class NetworkFacts(Document):
    """``network.json``: what the weights beside it belong to."""

    backbone: str
    preprocessing: Preprocessing
    classes: list[str]
    strategy: str
    head: str = "linear"
    """The kind of head: ``linear``, ``cosine``, ``neighbours`` or ``forest``."""
    weights_digest: str
    """sha256 of ``weights.safetensors`` beside this file."""
    backbone_digest: str
    """Digest of the backbone weights the transfer started from."""
    backbone_origin: str
    graftline: str = __version__


@dataclass(frozen=True)
class TrainedNetwork:
    """A network as it is kept: a folder with ``weights.safetensors`` and ``network.json``."""

    facts: NetworkFacts
    state: State = field(repr=False)

    @classmethod
    def of(
        cls, network: Network, *, preprocessing: Preprocessing, classes: list[str], strategy: str, origin: Any
    ) -> Self:
        """Freeze ``network`` as trained; ``origin`` are the :class:`BackboneWeights` it started from."""
        state = contiguous(network.state_dict())
        facts = NetworkFacts(
            backbone=network.row.name,
            preprocessing=preprocessing,
            classes=classes,
            strategy=strategy,
            head=network.head.kind,
            weights_digest=digests.of_bytes(safetensors.torch.save(state)),
            backbone_digest=origin.digest,
            backbone_origin=origin.origin,
        )
        return cls(facts, state)

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(NetworkFacts.load(path / "network.json"), safetensors.torch.load_file(path / "weights.safetensors"))

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            fresh.mkdir()
            (fresh / "weights.safetensors").write_bytes(safetensors.torch.save(self.state))
            self.facts.save(fresh / "network.json")

    def build(self) -> Network:
        """The network in eval mode, on the CPU, without gradients."""
        network = Network(self.facts.backbone, build_backbone(self.facts.backbone), len(self.classes))
        network.head = self._head()
        network.load_state_dict(self.state)
        return network.eval().requires_grad_(False)

    def _head(self) -> heads.Head:
        return heads.restored(self.facts.head, self._state_of(HEAD))

    def _state_of(self, module: str) -> State:
        """What belongs to one of the network's two modules, named as in the module itself."""
        prefix = f"{module}."
        return {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}

    @property
    def keeps_backbone(self) -> bool:
        """Are the backbone's weights and statistics, to the last bit, those that the transfer started from?"""
        return digests.of_bytes(safetensors.torch.save(self._state_of("backbone"))) == self.facts.backbone_digest

    @property
    def preprocessing(self) -> Preprocessing:
        return self.facts.preprocessing

    @property
    def classes(self) -> list[str]:
        return self.facts.classes

    @property
    def size_mb(self) -> float:
        """Of all weights and statistics, in millions of bytes."""
        return size_mb(self.state)

    @property
    def metadata(self) -> dict[str, str]:
        """What the ONNX file should say about itself; ``head_step`` is the head's, see :mod:`pipeline.models.heads`."""
        return {
            "head": self.facts.head,
            "head_step": repr(float(self._head().step)),
            "backbone": self.facts.backbone,
            "strategy": self.facts.strategy,
            "weights_digest": self.facts.weights_digest,
            "backbone_digest": self.facts.backbone_digest,
            "backbone_origin": self.facts.backbone_origin,
        }


def size_mb(state: Mapping[str, Tensor]) -> float:
    """Of all weights and statistics, in millions of bytes."""
    return sum(value.numel() * value.element_size() for value in state.values()) / 1e6


def not_finite(state: State) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, value in state.items() if not torch.isfinite(value).all()]


def contiguous(state: State) -> State:
    """Copies on the CPU in plain memory order, as safetensors wants them; equal values then make equal bytes."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
