"""What a run leaves besides a move: a record that tracking could not take; killed, MLflow runs that never end and
temporary folders beside final names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.catalog import CATALOG
from pipeline.core import files
from pipeline.core.errors import StoreError
from pipeline.release._desk import Desk
from pipeline.tracking import runs, unsent


def clear(desk: Desk) -> list[str]:
    """Send those records, close those runs and remove those folders; returns a line for people for each kind. Only
    under the lock. A store that does not answer can be told by the next run just as well."""
    return [*_tell(desk), *_sweep(desk)]


def _tell(desk: Desk) -> list[str]:
    try:
        return [*_send(desk), *_close_runs(desk)]
    except StoreError as error:
        return [f"what earlier runs have left for tracking waits for the next run: {error}"]


def _send(desk: Desk) -> list[str]:
    sent = unsent.send(desk.session) if unsent.waiting(desk.workspace) else []
    return [f"sent to tracking what an earlier run could not send: MLflow run {run_id}" for run_id in sent]


def _close_runs(desk: Desk) -> list[str]:
    closed = runs.close_killed(desk.session) if runs.open_runs(desk.workspace) else []
    return [f"closed the MLflow run {run_id}, which was killed" for run_id in closed]


def _sweep(desk: Desk) -> list[str]:
    """Only where artefacts and what is cached lie, and only what the writer of files has named and no process holds."""
    folders = {(desk.workspace / artefact.path).parent for artefact in CATALOG.values()} | {desk.handoff}
    folders |= set(_folders_below(desk.workspace / ".graftline/cache"))
    removed = [holder for folder in sorted(folders) for holder in files.sweep(folder)]
    many = f"{len(removed)} temporary folder{'s' * (len(removed) > 1)}"
    return [f"removed {many} that a killed run has left"] if removed else []


def _folders_below(root: Path) -> Iterator[Path]:
    """``root`` and the folders in it; not those that were written whole, of which a cache of features has thousands."""
    for folder, inside, _ in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith((".", "segment-"))]
        yield Path(folder)
