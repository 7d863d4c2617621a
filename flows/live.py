"""Sends the training's curves to MLflow while it trains."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
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
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(workspace, settings, run_id, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(workspace: Path, settings: Settings, run_id: str, done: threading.Event) -> None:
    try:
        while (path := _newest(workspace)) is None:
            if done.wait(LOOK_EVERY_S):
                return
        live = steps.live_curves(workspace, settings, run_id, path)
        while not done.wait(LOOK_EVERY_S):
            live.update()
    except ServiceError as error:
        logger.warning("the curves are not shown live: %s", error)


def _newest(workspace: Path) -> Path | None:
    """The file that training writes now; its folder's name is the training's digest, which we need not know."""
    return max(workspace.glob(FILES), key=lambda path: path.stat().st_mtime, default=None)
