"""Memory that tensors leave: kept for the next within the block, given back after it."""

from __future__ import annotations

import ctypes

import pytest
import torch

from pipeline.core import allocation
from pipeline.core.allocation import freed_memory_kept

resource = pytest.importorskip("resource", reason="counts page faults")
pytestmark = pytest.mark.skipif(allocation._glibc() is None, reason="a C library without mallopt")

BLOCK_BYTES = 64 * 2**20
PAGES = BLOCK_BYTES // resource.getpagesize()


def pages_asked_for() -> int:
    """By writing four blocks, one after the other, where each takes the place of the one before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(BLOCK_BYTES, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def warm_up() -> None:
    """Aligned blocks need a few gaps before each finds its own."""
    for _ in range(3):
        pages_asked_for()


def resident_bytes() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def test_a_block_takes_the_place_of_the_one_before() -> None:
    """After the first few, the kernel is asked for no more pages; without it, for those of every block."""
    assert pages_asked_for() >= 4 * PAGES
    with freed_memory_kept():
        warm_up()
        assert pages_asked_for() < PAGES // 2


def test_the_kernel_gets_the_memory_back_at_the_end() -> None:
    """A service that trained for an hour is as small afterwards as it was before."""
    before = resident_bytes()
    with freed_memory_kept():
        warm_up()
        assert resident_bytes() > before + BLOCK_BYTES // 2
    assert resident_bytes() < before + BLOCK_BYTES // 2


def test_an_inner_block_does_not_end_the_outer_one() -> None:
    """Candidates are trained within a stage that computes."""
    with freed_memory_kept():
        warm_up()
        with freed_memory_kept():
            pass
        assert pages_asked_for() < PAGES // 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no mallopt, the block does nothing and nothing fails."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        assert allocation._depth == 0
