"""Memory that tensors leave: kept for the next within the block, given back after it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest

from pipeline.core import allocation
from pipeline.core.allocation import freed_memory_kept

pytest.importorskip("resource", reason="counts page faults")
pytestmark = pytest.mark.skipif(allocation._glibc() is None, reason="a C library without mallopt")

# A process of its own: gaps that other work left in the heap take in blocks whatever the settings are.
MEASURE = """
import json, resource
from concurrent.futures import ThreadPoolExecutor
from pipeline.core.allocation import freed_memory_kept, share_one_heap

share_one_heap()
import psutil, torch

BLOCK_BYTES = 64 * 2**20

def blocks_asked_for():
    # By writing four, one after the other, where each may take the place of the one before.
    before = faults()
    for _ in range(4):
        torch.empty(BLOCK_BYTES, dtype=torch.uint8).fill_(1)
    return (faults() - before) * resource.getpagesize() / BLOCK_BYTES

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def blocks_resident():
    return psutil.Process().memory_info().rss / BLOCK_BYTES

def warm_up():
    # Aligned blocks need a few gaps before each finds its own.
    for _ in range(3):
        blocks_asked_for()

def in_a_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()

blocks_asked_for()  # the first loads what the operation needs
in_a_thread(lambda: bytearray(10**6))  # its heap, if it had one, would be the next one's
found = {"asked before": blocks_asked_for(), "resident before": blocks_resident()}
with freed_memory_kept():
    warm_up()
    found |= {"asked within": blocks_asked_for(), "resident within": blocks_resident()}
    with freed_memory_kept():
        pass
    found["asked after an inner block"] = blocks_asked_for()
    found["asked in a thread"] = in_a_thread(lambda: (warm_up(), blocks_asked_for())[1])
found |= {"resident after": blocks_resident()}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    """Blocks of 64 MiB that the kernel was asked for by page faults, and that it has given.

    Where it gives huge pages a block is fewer faults, before as within.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(allocation.TUNED_BY)}
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_block_takes_the_place_of_the_one_before(found: dict[str, float]) -> None:
    """After the first few, the kernel is asked for no more pages; without it, for those of every block."""
    assert found["asked within"] < found["asked before"] / 4


def test_threads_share_what_is_kept(found: dict[str, float]) -> None:
    """Features are computed in threads, several batches at once: a heap of their own would end at 64 MB."""
    assert found["asked in a thread"] < found["asked before"] / 4


def test_the_kernel_gets_the_memory_back_at_the_end(found: dict[str, float]) -> None:
    """A service that trained for an hour is as small afterwards as it was before."""
    assert found["resident within"] > found["resident before"] + 0.5
    assert found["resident after"] < found["resident before"] + 0.5


def test_an_inner_block_does_not_end_the_outer_one(found: dict[str, float]) -> None:
    """Candidates are trained within a stage that computes."""
    assert found["asked after an inner block"] < found["asked before"] / 4


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What a glibc is asked for that lets no threshold rise above 32 MB, as those before 2.35."""
    calls: list[tuple[int, int]] = []

    class Glibc:
        gnu_get_libc_version = "2.31"

        def mallopt(self, parameter: int, value: int) -> int:
            calls.append((parameter, value))
            return int(parameter != allocation.M_MMAP_THRESHOLD or value <= 32 * 2**20)

    for name in [name for name in os.environ if name.startswith(allocation.TUNED_BY)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Glibc())
    return calls


def test_a_glibc_that_refuses_is_left_as_it_was(asked: list[tuple[int, int]]) -> None:
    """To turn one knob alone would end glibc's own way of raising the other, and make all slower."""
    with freed_memory_kept():
        assert allocation._depth == 0
    assert asked == [(allocation.M_MMAP_THRESHOLD, allocation.ALL_BYTES)]


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_somebody_has_set_stays(asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever tunes malloc by the environment knows the machine better."""
    monkeypatch.setenv(name, "glibc.malloc.arena_max=2" if name == "GLIBC_TUNABLES" else "2")
    allocation.share_one_heap()
    with freed_memory_kept():
        assert allocation._depth == 0
    assert asked == []


def test_the_block_ends_with_an_error_too() -> None:
    """Else one stage that fails would leave its settings to a service that goes on."""
    with pytest.raises(ValueError, match="in the midst"), freed_memory_kept():
        raise ValueError("in the midst")
    assert allocation._depth == 0


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no mallopt, the block does nothing and nothing fails."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    allocation.share_one_heap()
    with freed_memory_kept():
        assert allocation._depth == 0
