"""Checkpoints: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pipeline.core import digests
from pipeline.core.errors import WeightsError
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, from_file, random_weights, verify
from pipeline.models.small_cnn import small_cnn

PREPROCESSING = backbone("small_cnn").preprocessing


def a_state(classes: int = 7) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return small_cnn(classes).state_dict()


def saved(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return path


def read(path: Path) -> BackboneWeights:
    return from_file("small_cnn", path, PREPROCESSING, origin="a test", where="backbone.weights")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_reads_any_number_of_classes_and_leaves_the_head_out(tmp_path: Path, suffix: str) -> None:
    """The checkpoint's own output layer, whatever its size, does not enter the backbone."""
    state = a_state(classes=7)
    weights = read(saved(tmp_path / f"w{suffix}", state))
    body = weights.build().state_dict()
    assert {name for name in state if not name.startswith("head.")} == set(body)
    assert all(torch.equal(state[name], value) for name, value in body.items())
    assert set(body) == set(weights.state)


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    """fp16 on disk is only a way to keep weights small."""
    halves = {name: value.half() if value.is_floating_point() else value for name, value in a_state().items()}
    state = read(saved(tmp_path / "w.safetensors", halves)).state
    assert {torch.float32, torch.int64} == {value.dtype for value in state.values()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": {f"backbone.{name}": value for name, value in state.items()}},
        lambda state: {name if "head" in name else f"backbone.{name}": value for name, value in state.items()},
    ],
    ids=["DataParallel", "compiled", "nested", "nested and prefixed", "head beside"],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    """What DataParallel, torch.compile and other trainers put around the weights does not matter."""
    plain = read(saved(tmp_path / "plain.pt", a_state())).build().state_dict()
    wrapped = read(saved(tmp_path / "wrapped.pt", wrap(a_state()))).build().state_dict()
    assert all(torch.equal(plain[name], value) for name, value in wrapped.items())


def test_missing_file(tmp_path: Path) -> None:
    """Names the path it looked at."""
    with pytest.raises(WeightsError, match=r"found nothing at .*none\.pt"):
        read(tmp_path / "none.pt")


def test_wrong_suffix(tmp_path: Path) -> None:
    """Lists the formats that are read."""
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"ends in \.safetensors, \.pt, \.pth"):
        read(tmp_path / "weights.h5")


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_code_in_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that would run code is refused unopened, with a way to save it safely."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(WeightsError, match=r"which may run code when opened; it was not opened"):
        read(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["text.safetensors", "text.pt"])
def test_garbage(tmp_path: Path, name: str) -> None:
    """A file that is something else is the user's mistake, not a traceback."""
    (tmp_path / name).write_text("these are not the weights you are looking for")
    with pytest.raises(WeightsError):
        read(tmp_path / name)


def test_truncated_file(tmp_path: Path) -> None:
    """Half a download is found out."""
    whole = saved(tmp_path / "w.pt", a_state()).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"half\.pt"):
        read(tmp_path / "half.pt")


def test_other_architecture(tmp_path: Path) -> None:
    """Says which tensors are missing and which are too many."""
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(WeightsError, match=r"lacks .* more and has besides conv1\.weight"):
        read(saved(tmp_path / "resnet.safetensors", state))


def test_wrong_shape(tmp_path: Path) -> None:
    """Says which tensor, the shape it should have and the shape it has."""
    state = a_state()
    state["stem.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(WeightsError, match=r"stem\.0\.0\.weight of shape \(16, 3, 3, 3\).*it is \(16, 1, 3, 3\)"):
        read(saved(tmp_path / "grey.safetensors", state))


def test_wrong_digest(tmp_path: Path) -> None:
    """Both digests are in the message."""
    path = saved(tmp_path / "w.pt", a_state())
    verify(path, digests.of_file(path), "here")
    verify(path, digests.of_file(path)[:8].upper(), "here")
    with pytest.raises(WeightsError, match=f"sha256 {'0' * 64}; found .* with sha256 {digests.of_file(path)}"):
        verify(path, "0" * 64, "here")


def test_unknown_backbone() -> None:
    """Lists what exists and the nearest name."""
    with pytest.raises(WeightsError, match=r"small_cnn, resnet18.*found 'resnet19'[\s\S]*Did you mean 'resnet"):
        backbone("resnet19")


def test_survives_a_round_trip(tmp_path: Path) -> None:
    """Saved and loaded, the weights, facts and digest are the same; saving again makes equal bytes."""
    weights = random_weights("small_cnn", 3, PREPROCESSING)
    weights.save(tmp_path / "a")
    loaded = BackboneWeights.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert weights.facts == loaded.facts
    assert weights.digest == digests.of_file(tmp_path / "a" / "weights.safetensors")
    assert digests.of_path(tmp_path / "a") == digests.of_path(tmp_path / "b")


def test_random_weights_follow_the_seed() -> None:
    """Equal seeds, equal weights; other seeds, others; the global random state is left alone."""
    torch.manual_seed(5)
    first, again, other = (random_weights("small_cnn", seed, PREPROCESSING).digest for seed in (1, 1, 2))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert first == again != other
    assert drawn == torch.rand(1)
