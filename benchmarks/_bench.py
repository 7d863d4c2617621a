"""What every benchmark shares: a workspace to run stages in, and a table that says where it was taken."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import params, workspace
from pipeline.catalog import CATALOG
from pipeline.graph import executor
from pipeline.graph.table import STAGES

REPOSITORY = Path(__file__).resolve().parent.parent
REALDATA = Path(os.environ.get("GRAFTLINE_REALDATA", REPOSITORY.parent / "shared" / "data"))


@contextmanager
def temporary_workspace(target: Path | None = None, source: Path | None = None) -> Iterator[Path]:
    """A fresh workspace that is removed afterwards: the digits, or the user's images."""
    folder = Path(tempfile.mkdtemp(prefix="graftline-bench-"))
    try:
        for _ in workspace.create(
            folder / "w",
            target=str(target) if target else None,
            source=str(source) if source else None,
            preset=None,
            version_data=False,
        ):
            pass
        yield folder / "w"
    finally:
        shutil.rmtree(folder)


def run_stages(folder: Path, assignments: Sequence[str], *, until: str = "evaluate") -> dict[str, float]:
    """Run the stages up to ``until`` in this process, whatever is there already; seconds by stage.

    No DVC, no Prefect, no MLflow: this times and scores the stages themselves.
    """
    params.assign(folder, list(assignments))
    seconds: dict[str, float] = {}
    for stage in STAGES:
        started = time.perf_counter()
        executor.execute(folder, stage.name)
        seconds[stage.name] = time.perf_counter() - started
        if stage.name == until:
            break
    return seconds


def report_of(folder: Path, artefact: str) -> Any:
    return CATALOG[artefact].load(folder)


class PeakMemory:
    """By how many MB the process's memory has peaked above what it held when this was made."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far, which the set-up may have made, is forgotten
        self._before = _status_mb("VmRSS")

    @property
    def mb(self) -> float:
        return _status_mb("VmHWM") - self._before


def _status_mb(name: str) -> float:
    """A line of proc(5)'s ``status``: ``VmRSS`` is what the process holds, ``VmHWM`` the most it has held."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """``mean ± sd`` of a sample; the sd is the sample's (n - 1)."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def revision() -> str:
    """The commit, and whether anything has been changed since."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()


def provenance() -> str:
    """One line: commit, date, processor, cores, versions."""
    import onnxruntime
    import torch

    return (
        f"commit {revision()}, {time.strftime('%Y-%m-%d')}, {_processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "CPU")


def replace_section(document: Path, name: str, content: str) -> None:
    """Put a generated table between its two markers in a Markdown file; the prose around it stays."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = document.read_text(encoding="utf-8")
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    document.write_text(f"{head}{begin}\n{content}\n{end}{tail}", encoding="utf-8")
