"""The device and the number of threads."""

from __future__ import annotations

import os

import pytest

from pipeline.core import allocation, device
from pipeline.core.errors import ParamsError


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_there_is(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device.choose("auto").type == device.choose().type == expected


def test_a_device_by_name() -> None:
    assert device.choose("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_device_that_is_not_here_is_the_users_to_change(name: str) -> None:
    """One torch does not know, or one this machine does not have: the message has one line of torch's."""
    with pytest.raises(ParamsError) as caught:
        device.choose(name)
    error = caught.value
    assert error.expected == "a device that torch can use here: auto, cpu, cuda, cuda:0, mps, …"
    assert error.found.startswith(f"'{name}' (")
    assert "\n" not in error.found
    assert len(error.found) > len(f"'{name}' (None)")
    assert error.where == "runtime.device in params.yaml"
    assert error.remedy == "Set it to 'auto', or install a torch build for that device."


@pytest.mark.parametrize(
    ("requested", "size_px", "limit", "expected"),
    [
        (3, 32, "1", 3),  # asked for: neither the image's size nor the environment counts
        ("auto", 64, "", 1),
        ("auto", 65, "", 8),
        ("auto", 224, "4", 4),
        ("auto", 224, "16", 8),
        ("auto", 224, "1", 1),
        ("auto", 224, "0", 8),
        ("auto", 224, "many", 8),
    ],
)
def test_threads_follow_a_rule(
    monkeypatch: pytest.MonkeyPatch, requested: device.Threads, size_px: int, limit: str, expected: int
) -> None:
    """One for small images, else the cores that this process may use, or fewer where OMP_NUM_THREADS says so."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)) if pid == 0 else set(), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert device.threads_for(requested, size_px) == expected


@pytest.mark.parametrize(("cores", "expected"), [(6, 6), (None, 1)])
def test_threads_where_the_system_knows_no_affinity(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, expected: int
) -> None:
    """macOS: the machine's cores; one where even they are unknown."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert device.threads_for("auto", 224) == expected


def test_images_lie_as_the_device_likes_them() -> None:
    import torch

    formats = [device.memory_format(torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert formats == [torch.channels_last, torch.channels_last, torch.contiguous_format]


def test_computing_is_seeded_and_leaves_the_threads_as_they_were() -> None:
    """Equal seeds give equal draws; the number of threads holds within the block, also when it ends in an error."""
    import torch

    def drawn(seed: int) -> float:
        with device.computing("cpu", seed, 2) as chosen:
            assert (chosen.type, torch.get_num_threads()) == ("cpu", 2)
            return torch.rand(1).item()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert drawn(7) == drawn(7) != drawn(8)
        with pytest.raises(RuntimeError, match="diverged"), device.computing("cpu", 7, 2):
            raise RuntimeError("diverged")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(allocation._glibc() is None, reason="a C library without mallopt")
def test_computing_keeps_what_tensors_leave() -> None:
    """Within the block alone."""
    with device.computing("cpu", 0, 1):
        assert allocation._depth == 1
    assert allocation._depth == 0


def test_one_thread_is_for_the_block_alone() -> None:
    """Also when it ends in an error."""
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with device.one_thread():
            assert torch.get_num_threads() == 1
        with pytest.raises(RuntimeError, match="no answer"), device.one_thread():
            raise RuntimeError("no answer")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
