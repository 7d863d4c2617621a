"""Cores of the machine and of the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core import cores


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on eight."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)) if pid == 0 else set(), raising=False)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("max 100000", 8),
        ("", 8),
        ("2", 8),
        (None, 8),
    ],
)
def test_a_container_s_share_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, expected: int
) -> None:
    """In whole cores, rounded up; where none is set, or the file is not there or says something else, all."""
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert expected == cores.usable()
    assert 8 == cores.assigned()


@pytest.mark.parametrize(("machine", "expected"), [(6, 6), (None, 1)])
def test_where_the_system_knows_no_affinity(
    monkeypatch: pytest.MonkeyPatch, machine: int | None, expected: int
) -> None:
    """macOS: the machine's; one where even they are unknown."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    assert expected == cores.assigned()
