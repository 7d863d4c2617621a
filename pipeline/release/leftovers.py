"""What a killed run leaves besides a move: MLflow runs that never end, and temporary folders beside final names."""

from __future__ import annotations

from pipeline.catalog import CATALOG
from pipeline.core import files
from pipeline.release._desk import Desk
from pipeline.tracking import runs


def clear(desk: Desk) -> list[str]:
    """Close those runs and remove those folders; returns a line for people for each kind. Only under the lock."""
    return [*_close_runs(desk), *_sweep(desk)]


def _close_runs(desk: Desk) -> list[str]:
    closed = runs.close_killed(desk.session) if runs.open_runs(desk.workspace) else []
    return [f"closed the MLflow run {run_id}, which was killed" for run_id in closed]


def _sweep(desk: Desk) -> list[str]:
    """Only where artefacts lie, and only what the writer of files has named."""
    folders = {(desk.workspace / artefact.path).parent for artefact in CATALOG.values()} | {desk.handoff}
    removed = [holder for folder in sorted(folders) for holder in files.sweep(folder)]
    many = f"{len(removed)} temporary folder{'s' * (len(removed) > 1)}"
    return [f"removed {many} that a killed run has left"] if removed else []
