"""How much memory there is to use: of the machine, or of the container that we are in."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """What can be used before the system must swap or kill."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = _number("memory.max"), _number("memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used + _cached()))


def _cached() -> int:
    """Bytes of files that the container counts as used and gives back when they are wanted."""
    try:
        figures = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(figures.get("active_file", 0)) + int(figures.get("inactive_file", 0))


def _number(name: str) -> int | None:
    """A figure of the container's; None where there is no limit, or no container."""
    try:
        text = (CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
