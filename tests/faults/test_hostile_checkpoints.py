"""Checkpoints made to do harm: refused in a sentence; nothing in them is executed, and no memory is given away."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import assert_refused, in_this_process
from tally import Tally

from pipeline.models.small_cnn import small_cnn

CANARY = "executed"


class Harmful:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (CANARY,)


def state(**changed: Any) -> dict[str, Any]:
    """A sound checkpoint of small_cnn, but for what is changed."""
    torch.manual_seed(0)
    return small_cnn(3).state_dict() | changed


FIRST = next(name for name, value in state().items() if value.is_floating_point())


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def safetensors_of(header: bytes | dict[str, Any], body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(first: int, last: int, *shape: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape or (2,)), "data_offsets": [first, last]}


def repacked(content: bytes, compression: int = zipfile.ZIP_DEFLATED, **added: bytes) -> bytes:
    """The same zip, each entry packed, and some more beside them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry.filename))
        for name, data in added.items():
            new.writestr(name, data)
    return buffer.getvalue()


def _legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _tar() -> bytes:
    """The oldest form that torch reads: a tar, here with a way out of its folder and a device."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("../canary", "storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = 6
            archive.addfile(member, io.BytesIO(b"canary"))
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    return buffer.getvalue()


PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bare pickle": (lambda: pickle.dumps(Harmful()), "holds Python objects, which may run code"),
    "code within a checkpoint": (lambda: saved({"state_dict": state(), "hook": Harmful()}), "may run code"),
    "code in torch's old form": (lambda: _legacy({"state_dict": state(), "hook": Harmful()}), "may run code"),
    "a whole module": (lambda: saved(torch.nn.Linear(2, 2)), "may run code"),
    "code behind a state dict": (lambda: saved(state(extra=Harmful())), "may run code"),
    "a tar": (_tar, "hostile.pt "),
    "a cut-off file": (lambda: saved(state())[:-5000], "is broken or something else"),
    "no tensors": (lambda: saved({"epoch": 3}), "holds dict without one"),
    "nothing": (lambda: b"", "is broken or something else"),
    "a zip bomb": (lambda: repacked(saved(state(padding=torch.zeros(5_000_000)))), "that are packed and unpack to 2"),
    "one number for terabytes": (
        lambda: saved(state(**{FIRST: torch.zeros(1, dtype=torch.half).expand(10**12)})),
        "2,000,00",
    ),
    "a sparse tensor": (lambda: saved(state(**{FIRST: torch.eye(3).to_sparse()})), f"the sparse tensor {FIRST}"),
    "another shape": (lambda: saved(state(**{FIRST: torch.zeros(7, 3, 3, 3)})), "where it is (7, 3, 3, 3) (1 such"),
    "no dimension": (lambda: saved(state(**{FIRST: torch.tensor(1.0)})), "where it is ()"),
    "whole numbers": (
        lambda: saved({name: value.to(torch.int8) for name, value in state().items()}),
        "where it is torch.int8",
    ),
    "a tensor too few": (lambda: saved({n: v for n, v in state().items() if n != FIRST}), f"that lacks {FIRST}"),
    "a tensor too many": (lambda: saved(state(**{"stem.evil": torch.zeros(3)})), "has besides stem.evil"),
}

SAFETENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "header too small"),
    "three bytes": (lambda: b"abc", "header too small"),
    "a header longer than the file": (lambda: safetensors_of({"x": tensor(0, 8)}, bytes(8), 10**6), "header length"),
    "a header of minus one": (lambda: safetensors_of({"x": tensor(0, 8)}, bytes(8), 2**64 - 1), "header too large"),
    "a header of 2⁶³": (lambda: safetensors_of({"x": tensor(0, 8)}, bytes(8), 2**63), "header too large"),
    "a huge header": (lambda: safetensors_of(b"{" + b" " * 101_000_000), "header too large"),
    "a deep header": (lambda: safetensors_of(b'{"a":' * 100_000), "recursion limit"),
    "a header that is no text": (lambda: safetensors_of(b'{"\xff":1}'), "invalid UTF-8"),
    "tensors that overlap": (lambda: safetensors_of({"x": tensor(0, 8), "y": tensor(4, 12)}, bytes(12)), "offset"),
    "a tensor beyond the end": (lambda: safetensors_of({"x": tensor(0, 8)}, bytes(4)), "not fully covered"),
    "bytes of no tensor": (lambda: safetensors_of({"x": tensor(0, 8)}, bytes(99)), "not fully covered"),
    "a tensor that ends before it begins": (lambda: safetensors_of({"x": tensor(8, 0)}, bytes(8)), "offset"),
    "a negative offset": (lambda: safetensors_of({"x": tensor(-8, 0)}, bytes(8)), "integer `-8`"),
    "a negative shape": (lambda: safetensors_of({"x": tensor(0, 8, -2)}, bytes(8)), "integer `-2`"),
    "a shape beyond all numbers": (lambda: safetensors_of({"x": tensor(0, 8, 2**62, 4)}, bytes(8)), "overflow"),
    "a shape that is not its bytes": (lambda: safetensors_of({"x": tensor(0, 8, 10**9)}, bytes(8)), "is broken"),
    "an unknown type": (lambda: safetensors_of({"x": tensor(0, 8, dtype="F99")}, bytes(8)), "unknown variant"),
    "another network's": (lambda: safetensors_of({"x": tensor(0, 8)}, bytes(8)), "that lacks"),
    "no tensor at all": (lambda: safetensors_of({}), "that lacks"),
}


@pytest.mark.parametrize(
    ("name", "make", "found"),
    [("hostile.pt", make, found) for make, found in PICKLES.values()]
    + [("hostile.safetensors", make, found) for make, found in SAFETENSORS.values()],
    ids=[*PICKLES, *(f"safetensors: {case}" for case in SAFETENSORS)],
)
def test_a_hostile_checkpoint_is_refused(
    name: str,
    make: Callable[[], bytes],
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tally: Tally,
) -> None:
    """By the stage that reads it, in one sentence; the canary is not hatched, and no output stands."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(make())
    Path("params.yaml").write_text(f"model: toys\nbackbone: {{name: small_cnn, weights: {{file: {name}}}}}\n")
    answer = in_this_process(monkeypatch, capsys)("stage", "backbone")
    with tally("files"):
        assert_refused(answer, "backbone.weights in params.yaml", name, found)
    tally.tried("canaries", CANARY.encode() in Path(name).read_bytes())
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {name, "params.yaml", ".graftline"}, "something was executed, unpacked or left behind"
    assert not (tmp_path.parent / "canary").exists()
    tally.held("canaries", CANARY.encode() in Path(name).read_bytes())


def test_the_digest_is_looked_at_before_the_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not the one asked for is not parsed at all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    Path("w.pt").write_bytes(pickle.dumps(Harmful()))
    weights = f"{{file: w.pt, sha256: {'a' * 64}}}"
    Path("params.yaml").write_text(f"model: toys\nbackbone: {{name: small_cnn, weights: {weights}}}\n")
    answer = in_this_process(monkeypatch, capsys)("stage", "backbone")
    assert_refused(answer, f"a file with sha256 {'a' * 64}", "Fetch the file again")
    assert not Path(CANARY).exists()


def test_the_canary_would_hatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read carelessly, the same file does run code: the tests above can fail."""
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(saved({"state_dict": state(), "hook": Harmful()}))
    torch.load("w.pt", weights_only=False)
    assert Path(CANARY).is_dir()
