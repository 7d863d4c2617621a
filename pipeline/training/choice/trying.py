"""Running one strategy on trial: its data checked, its failure caught, its cost taken, its result safe from a kill."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core import digests, files, plugins
from pipeline.core.context import Context
from pipeline.core.device import choose
from pipeline.core.errors import BudgetError, InputError, TrainingError
from pipeline.core.seeding import derive
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.network import Network, TrainedNetwork, size_mb
from pipeline.training import needs
from pipeline.training.record import TrainingRecord, Trial
from pipeline.training.task import Fitted, Task

PACKAGE = "pipeline.training.strategies"


@dataclass(frozen=True)
class Attempt:
    """One strategy under one seed; ``fitted`` is None where it could not be fitted, and ``failure`` says why."""

    strategy: str
    repeat: int
    fitted: Fitted | None
    failure: str | None
    seconds: float
    is_cut: bool = False
    """Was it the budget that ended it?"""

    @property
    def network(self) -> Network:
        assert self.fitted is not None, f"{self.strategy} was not fitted"
        return self.fitted.network

    @property
    def guards(self) -> dict[str, bool]:
        return dict(self.fitted.record.guards) if self.fitted is not None else {}

    @property
    def network_mb(self) -> float:
        return size_mb(self.network.state_dict())

    @property
    def trial(self) -> Trial:
        return Trial(
            strategy=self.strategy, repeat=self.repeat, seconds=round(self.seconds, 2), network_mb=self.network_mb
        )


def depends_on_the_seed(strategy: str) -> bool:
    """May another seed end elsewhere? Where there are epochs: others solve a convex problem, or draw so much (trees,
    exemplars, halves of the images) that other draws move few answers."""
    return "epochs" in plugins.load(PACKAGE, strategy).Params.model_fields


def attempt(
    task: Task, strategy: str, repeat: int, settings: dict[str, Any], context: Context, *, part: str = "whole"
) -> Attempt:
    """Fit ``strategy`` with ``settings``; ``part`` tells apart fits on parts of the labels.

    The first repeat has the run's own seed, so that it is what asking for that strategy alone would have given.
    """
    module = plugins.load(PACKAGE, strategy)
    if missing := needs.unmet(module, task):
        return Attempt(strategy, repeat, None, f"It needs {needs.NEEDS[missing[0]].phrase}.", 0.0)
    own = _context(context, strategy, repeat, part)
    if (kept := _kept(own.scratch)) is not None:
        return Attempt(strategy, repeat, *kept)
    started = time.monotonic()
    try:
        fitted = module.fit(task.with_context(own), module.Params(**settings), own)
    except (InputError, TrainingError, np.linalg.LinAlgError, torch.OutOfMemoryError) as error:
        reason = f"Expected {error.expected}; found {error.found}." if isinstance(error, InputError) else str(error)
        if own.scratch is not None:  # a resumed run begins it anew, as this one did
            shutil.rmtree(own.scratch, ignore_errors=True)
        is_cut = isinstance(error, BudgetError)
        return Attempt(strategy, repeat, None, reason, time.monotonic() - started, is_cut=is_cut)
    seconds = time.monotonic() - started
    _keep(own.scratch, task, fitted, seconds)
    return Attempt(strategy, repeat, fitted, None, seconds)


def _context(context: Context, strategy: str, repeat: int, part: str) -> Context:
    seed = context.seed if repeat == 0 else derive(context.seed, "repeat", repeat) % 2**31
    scratch = context.scratch and context.scratch / "auto" / f"{strategy}-{repeat}-{part}-{_made_by(context)}"
    return replace(context, seed=seed, scratch=scratch)


def _made_by(context: Context) -> str:
    """In the folder's name: another device, thread count or torch build rounds otherwise, as with checkpoints."""
    made_by = [choose(context.device).type, torch.get_num_threads(), torch.__version__]
    return digests.of_json(made_by)[:8]


def _keep(folder: Path | None, task: Task, fitted: Fitted, seconds: float) -> None:
    """Write a finished attempt down, last of all the file that says it is whole."""
    if folder is None:
        return
    trained = TrainedNetwork.of(
        fitted.network,
        preprocessing=fitted.preprocessing or task.backbone.preprocessing,
        classes=task.classes,
        strategy=fitted.record.strategy,
        origin=task.backbone,
    )
    trained.save(folder / "network")
    fitted.record.save(folder / "record.json")
    own = fitted.preprocessing and fitted.preprocessing.model_dump(mode="json")
    files.write_text(folder / "done.json", json.dumps({"seconds": seconds, "preprocessing": own}))


def _kept(folder: Path | None) -> tuple[Fitted, None, float] | None:
    """What a killed run had finished."""
    if folder is None or not (folder / "done.json").is_file():
        return None
    network = TrainedNetwork.load(folder / "network").build()
    record = TrainingRecord.load(folder / "record.json")
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    own = done["preprocessing"] and Preprocessing.model_validate(done["preprocessing"])
    return Fitted(network, record, own), None, done["seconds"]
