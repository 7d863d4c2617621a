"""Backbone weights: where they come from, how they are proven to be what was asked for, and how they are kept.

Nothing from outside is unpickled blindly: safetensors, or ``torch.load(weights_only=True)``. Nothing from a network
is used before its digest has been checked.
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.core import archives, digests
from pipeline.core.errors import WeightsError
from pipeline.core.files import Document, replacing
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.backbones import Backbone, backbone
from pipeline.models.network import State, build_backbone, contiguous, not_finite

WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")
"""Prefixes that DataParallel, torch.compile and other trainers leave on every name."""

NESTS = ("state_dict", "model_state_dict", "model", "weights")
"""Keys under which trainers put the weights beside epoch numbers and optimizer state."""

REPEATED = 4
"""How many times a file's size its tensors may come to: tied weights are stored once and named twice."""

SUFFIXES = (".safetensors", ".pt", ".pth")


class BackboneFacts(Document):
    """``backbone.json``: what the weights beside it are."""

    name: str
    feature_dim: int
    preprocessing: Preprocessing
    digest: str
    """sha256 of ``weights.safetensors`` beside this file."""
    origin: str
    """Where the weights come from, for people: ``torchvision IMAGENET1K_V1``, ``pretrained on the source domain``."""
    source_accuracy: float | None = None
    """Accuracy on the source's validation split under the head it was pretrained with, if that was done here."""
    pretrained_on_source: bool = False
    """Were they trained here on the source's labels, so that their BatchNorm statistics are those of the source?"""
    head_classes: int | None = None
    """Outputs of the checkpoint's own head, where it came with one."""


@dataclass(frozen=True)
class BackboneWeights:
    """Weights of one backbone: a folder with ``weights.safetensors`` and ``backbone.json``.

    The head that a checkpoint came with is kept apart, in ``head.safetensors``: transfer grafts a new one, but some
    strategies learn from what the old one says, and without any labelled image it is all that names the classes.
    """

    facts: BackboneFacts
    state: State = field(repr=False)
    head: State | None = field(default=None, repr=False)
    """``weight`` [head_classes, feature_dim] and ``bias`` [head_classes]."""

    @classmethod
    def of(
        cls,
        name: str,
        state: State,
        *,
        preprocessing: Preprocessing,
        origin: str,
        source_accuracy: float | None = None,
        pretrained_on_source: bool = False,
        head: State | None = None,
    ) -> Self:
        state = contiguous(state)
        facts = BackboneFacts(
            name=name,
            feature_dim=backbone(name).feature_dim,
            preprocessing=preprocessing,
            digest=digests.of_bytes(safetensors.torch.save(state)),
            origin=origin,
            source_accuracy=source_accuracy,
            pretrained_on_source=pretrained_on_source,
            head_classes=len(head["bias"]) if head else None,
        )
        return cls(facts, state, contiguous(head) if head else None)

    @classmethod
    def load(cls, path: Path) -> Self:
        facts, head = BackboneFacts.load(path / "backbone.json"), path / "head.safetensors"
        return cls(
            facts,
            safetensors.torch.load_file(path / "weights.safetensors"),
            safetensors.torch.load_file(head) if head.is_file() else None,
        )

    def save(self, path: Path) -> None:
        with replacing(path) as fresh:
            fresh.mkdir()
            (fresh / "weights.safetensors").write_bytes(safetensors.torch.save(self.state))
            if self.head is not None:
                (fresh / "head.safetensors").write_bytes(safetensors.torch.save(self.head))
            self.facts.save(fresh / "backbone.json")

    def build(self) -> nn.Module:
        """The backbone with these weights, in eval mode: [B, 3, S, S] → features [B, feature_dim]."""
        module = build_backbone(self.name)
        module.load_state_dict(self.state)
        return module.eval()

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def feature_dim(self) -> int:
        return self.facts.feature_dim

    @property
    def preprocessing(self) -> Preprocessing:
        return self.facts.preprocessing

    @property
    def digest(self) -> str:
        return self.facts.digest

    @property
    def origin(self) -> str:
        return self.facts.origin


def random_weights(name: str, seed: int, preprocessing: Preprocessing) -> BackboneWeights:
    """Untrained weights: the honest zero line."""
    state = build_backbone(name, seed).state_dict()
    return BackboneWeights.of(name, state, preprocessing=preprocessing, origin="random initialisation")


def from_file(name: str, path: Path, preprocessing: Preprocessing, *, origin: str, where: str) -> BackboneWeights:
    """Read a checkpoint and fit it to the backbone ``name``; its own head may have any number of classes.

    Raises:
        WeightsError: the file is missing, holds code or NaN, is no checkpoint, or belongs to another architecture.
    """
    row = backbone(name)
    read = _read(path, where)
    state, head = _fit(read, row, path, where), _own_head(read, row)
    _check_finite(state | {f"{row.head}.{part}": value for part, value in (head or {}).items()}, path, where)
    return BackboneWeights.of(name, state, preprocessing=preprocessing, origin=origin, head=head)


def verify(path: Path, sha256: str, where: str) -> None:
    """Check a file against its digest, or against the first digits of it.

    Raises:
        WeightsError: they differ.
    """
    found = digests.of_file(path)
    if not found.startswith(sha256.lower()):
        raise WeightsError(
            expected=f"a file with sha256 {sha256.lower()}",
            found=f"{path} with sha256 {found}",
            where=where,
            remedy="Fetch the file again; if it was changed on purpose, set its new sha256.",
        )


def _read(path: Path, where: str) -> State:
    """Names and tensors of a checkpoint file, floats as float32."""
    if not path.is_file():
        raise WeightsError(
            expected="a checkpoint file",
            found=f"{path} is a folder" if path.is_dir() else f"nothing at {path}",
            where=where,
            remedy="Correct the path; a relative one is taken from the workspace.",
        )
    if path.suffix not in SUFFIXES:
        raise WeightsError(
            expected=f"a file that ends in {', '.join(SUFFIXES)}",
            found=path.name,
            where=where,
            remedy="Save the weights with safetensors.torch.save_file or torch.save(state_dict).",
        )
    loaded = _read_safetensors(path, where) if path.suffix == ".safetensors" else _read_torch(path, where)
    _check_sizes(loaded, path, where)
    return {name: value.float() if value.is_floating_point() else value for name, value in loaded.items()}


def _read_safetensors(path: Path, where: str) -> State:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            expected="a safetensors file",
            found=f"{path.name} is broken or something else ({error})",
            where=where,
            remedy="Fetch the file again and compare its sha256 with the publisher's.",
        ) from error


def _check_sizes(loaded: State, path: Path, where: str) -> None:
    """A few bytes can stand for a tensor of any size: one number that is repeated, or a sparse one."""
    sparse = [name for name, value in loaded.items() if value.layout != torch.strided]
    told = sum(value.numel() * value.element_size() for value in loaded.values() if value.layout == torch.strided)
    if sparse or told > REPEATED * path.stat().st_size:
        found = f"the sparse tensor {sparse[0]}" if sparse else f"{told / 1e6:,.0f} MB of tensors"
        raise WeightsError(
            expected="a file that holds its tensors in full",
            found=f"{found} in {path.name} of {path.stat().st_size / 1e6:,.1f} MB",
            where=where,
            remedy="Save it again where you trust it: {name: value.to_dense().contiguous() for each of state_dict()}.",
        )


def _check_not_packed(path: Path, where: str) -> None:
    """torch.save writes a zip without compression."""
    try:
        archives.check_not_packed(path)
    except ValueError as error:
        raise WeightsError(
            expected="a checkpoint written by torch.save",
            found=f"{path.name}: {error}",
            where=where,
            remedy="Fetch the file again and compare its sha256 with the publisher's.",
        ) from None


def _read_torch(path: Path, where: str) -> State:
    try:
        _check_not_packed(path, where)
        with warnings.catch_warnings(action="ignore"):  # of an odd pickle protocol: the message below says enough
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            expected="a file that holds tensors only",
            found=f"{path.name} holds Python objects, which may run code when opened; it was not opened",
            where=where,
            remedy="Save it again where you trust it: torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:  # the parser meets a broken file with whatever its bytes lead to, IndexError included
        raise WeightsError(
            expected="a checkpoint written by torch.save",
            found=f"{path.name} is broken or something else ({type(error).__name__})",
            where=where,
            remedy="Fetch the file again and compare its sha256 with the publisher's.",
        ) from error
    return _tensors(loaded, path, where)


def _tensors(loaded: object, path: Path, where: str) -> State:
    """Look for the mapping of names to tensors, also one level down."""
    if isinstance(loaded, dict):
        nested = [loaded[key] for key in NESTS if isinstance(loaded.get(key), dict)]
        for candidate in [loaded, *nested]:
            if candidate and all(isinstance(value, Tensor) for value in candidate.values()):
                return dict(candidate)
    raise WeightsError(
        expected="a state dict: names and tensors",
        found=f"{path.name} holds {type(loaded).__name__} without one",
        where=where,
        remedy="Save it with torch.save(model.state_dict(), path).",
    )


def _fit(state: State, row: Backbone, path: Path, where: str) -> State:
    """Bring names into the backbone's form, leave its head out, and check every name and shape."""
    wanted = build_backbone(row.name).state_dict()
    found = _unwrapped(state, wanted)
    body = {
        name: value
        for name, value in found.items()
        if not any(_of_head(name, part) for part in (row.head, *row.dropped))
    }
    _check_names(body, wanted, row, path, where)
    _check_shapes(body, wanted, row, path, where)
    return body


def _unwrapped(state: State, wanted: State) -> State:
    """Strip a wrapper's prefix if all names carry it, as often as needed, and stop when the names fit."""
    while not wanted.keys() & state.keys():
        prefix = next((prefix for prefix in WRAPPERS if state and all(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            # Some trainers keep the head beside a wrapped backbone: take the wrapped names alone.
            inner = {
                name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")
            }
            return inner or state
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _own_head(state: State, row: Backbone) -> State | None:
    """The checkpoint's own linear head, under the architecture's name for it or under ours."""
    for prefix in (row.head, "head"):
        for weight_name in (name for name in state if f".{name}".endswith(f".{prefix}.weight")):
            weight, bias = state[weight_name], state.get(weight_name.removesuffix("weight") + "bias")
            if weight.ndim == 2 and weight.shape[1] == row.feature_dim:
                return {"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else bias}
    return None


def _of_head(name: str, head: str) -> bool:
    return name.startswith(f"{head}.")


def _check_names(body: State, wanted: State, row: Backbone, path: Path, where: str) -> None:
    # Checkpoints of early torch versions have no batch counter; it does not enter the computation.
    for name in wanted.keys() - body.keys():
        if name.endswith("num_batches_tracked"):
            body[name] = wanted[name]
    missing, extra = sorted(wanted.keys() - body.keys()), sorted(body.keys() - wanted.keys())
    if missing or extra:
        raise WeightsError(
            expected=f"the {len(wanted)} tensors of {row.name}",
            found=f"{path.name} that lacks {_some(missing)} and has besides {_some(extra)}",
            where=where,
            remedy="Name the architecture that the file was made for in backbone.name.",
        )


def _check_shapes(body: State, wanted: State, row: Backbone, path: Path, where: str) -> None:
    wrong = [name for name in wanted if body[name].shape != wanted[name].shape]
    kinds = [name for name in wanted if body[name].is_floating_point() != wanted[name].is_floating_point()]
    if kinds and not wrong:
        name = kinds[0]
        raise WeightsError(
            expected=f"{row.name} with {name} of type {wanted[name].dtype}",
            found=f"{path.name} where it is {body[name].dtype} ({len(kinds)} such tensors)",
            where=where,
            remedy="Give the weights as they were trained, not a quantised copy.",
        )
    if wrong:
        name = wrong[0]
        raise WeightsError(
            expected=f"{row.name} with {name} of shape {tuple(wanted[name].shape)}",
            found=f"{path.name} where it is {tuple(body[name].shape)} ({len(wrong)} such tensors)",
            where=where,
            remedy="Name the architecture that the file was made for in backbone.name.",
        )


def _check_finite(tensors: State, path: Path, where: str) -> None:
    """A training that diverged leaves NaN, with which every image has the same answer and no gate an opinion."""
    if bad := not_finite(tensors):
        raise WeightsError(
            expected="weights that are finite numbers",
            found=f"NaN or infinity in {_some(bad)} of {path.name}",
            where=where,
            remedy="Take a checkpoint from before the training that wrote it went wrong.",
        )


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
