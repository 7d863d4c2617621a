"""Memory that tensors leave: kept for the next within the block, given back after it."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from pipeline.core import allocation
from pipeline.core.allocation import freed_memory_kept

pytest.importorskip("resource", reason="counts page faults")
pytestmark = pytest.mark.skipif(allocation._glibc() is None, reason="a C library without mallopt")

# A process of its own: gaps that other work left in the heap take in blocks whatever the settings are.
MEASURE = """
import json, os, resource
import psutil, torch
from pipeline.core.allocation import freed_memory_kept

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

blocks_asked_for()  # the first loads what the operation needs
found = {"asked before": blocks_asked_for(), "resident before": blocks_resident()}
with freed_memory_kept():
    warm_up()
    found |= {"asked within": blocks_asked_for(), "resident within": blocks_resident()}
    with freed_memory_kept():
        pass
    found["asked after an inner block"] = blocks_asked_for()
found |= {"resident after": blocks_resident()}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    """Blocks of 64 MiB that the kernel was asked for by page faults, and that it has given.

    Where it gives huge pages a block is fewer faults, before as within.
    """
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_block_takes_the_place_of_the_one_before(found: dict[str, float]) -> None:
    """After the first few, the kernel is asked for no more pages; without it, for those of every block."""
    assert found["asked within"] < found["asked before"] / 4


def test_the_kernel_gets_the_memory_back_at_the_end(found: dict[str, float]) -> None:
    """A service that trained for an hour is as small afterwards as it was before."""
    assert found["resident within"] > found["resident before"] + 0.5
    assert found["resident after"] < found["resident before"] + 0.5


def test_an_inner_block_does_not_end_the_outer_one(found: dict[str, float]) -> None:
    """Candidates are trained within a stage that computes."""
    assert found["asked after an inner block"] < found["asked before"] / 4


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no mallopt, the block does nothing and nothing fails."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        assert allocation._depth == 0
