"""Sends the training's curves to MLflow while it trains."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.core.errors import ServiceError
from pipeline.params import Settings
from pipeline.release import steps

LOOK_EVERY_S = 2.0
FILES = ".graftline/scratch/train-*/live.jsonl"

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def curves(workspace: Path, settings: Settings, run_id: str) -> Iterator[None]:
    """Inside the block, log each epoch to the run soon after it ended. Trouble with that never stops a training: the
    whole history is recorded again at the end of the run."""
    done, before = threading.Event(), _files(workspace)
    follower = threading.Thread(target=_follow, args=(workspace, settings, run_id, before, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(
    workspace: Path, settings: Settings, run_id: str, before: Mapping[Path, int], done: threading.Event
) -> None:
    live = None
    try:
        while not done.wait(LOOK_EVERY_S):
            path = _newest(workspace, before)
            if path and (live is None or live.path != path):
                live = steps.live_curves(workspace, settings, run_id, path)
            if live:
                live.update()
    except ServiceError as error:
        logger.warning("the curves are not shown live: %s", error)


def _newest(workspace: Path, before: Mapping[Path, int]) -> Path | None:
    """The file that training writes now; its folder's name is the training's digest, which we need not know. One that
    is as it was ``before`` the training began is another training's, which was killed."""
    written = {path: changed for path, changed in _files(workspace).items() if before.get(path) != changed}
    return max(written, key=written.__getitem__, default=None)


def _files(workspace: Path) -> dict[Path, int]:
    """When each was last written, ns; one that vanishes meanwhile (its training has ended) is left out."""
    found = {}
    for path in workspace.glob(FILES):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found
