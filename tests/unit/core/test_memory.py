"""Memory of the machine and of the container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from pipeline.core import memory

FREE = 1000


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a container's figures would stand, on a machine with 1,000 bytes free."""
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": FREE}))
    return tmp_path


def limited(container: Path, limit: str, used: str, stat: str = "") -> int:
    (container / "memory.max").write_text(f"{limit}\n")
    (container / "memory.current").write_text(f"{used}\n")
    (container / "memory.stat").write_text(stat)
    return memory.available_bytes()


@pytest.mark.usefixtures("container")
def test_without_a_container_it_is_the_machines() -> None:
    assert memory.available_bytes() == FREE


def test_a_container_without_a_limit_has_the_machines(container: Path) -> None:
    assert limited(container, "max", "300") == FREE


def test_a_limit_counts_less_what_is_used(container: Path) -> None:
    """But for files in memory, which are given back when memory is wanted."""
    assert limited(container, "500", "300") == 200
    assert limited(container, "500", "300", "anon 7\nactive_file 20\ninactive_file 30\n") == 250
    assert limited(container, "500", "300", "active_file 20\n") == 220
    assert limited(container, "500", "300", "inactive_file 30\n") == 230


def test_never_more_than_the_machine_has_and_never_less_than_nothing(container: Path) -> None:
    assert limited(container, "5000", "300") == FREE
    assert limited(container, "500", "700") == 0


def test_figures_that_cannot_be_read_are_none(container: Path) -> None:
    """A table of another shape, or none at all."""
    assert limited(container, "500", "300", "one two three\n") == 200
    (container / "memory.stat").unlink()
    assert memory.available_bytes() == 200
    (container / "memory.current").unlink()
    assert memory.available_bytes() == FREE
