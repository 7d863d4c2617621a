"""Runs one stage in this process. ``dvc repro``, the Prefect flow and ``--inline`` all end here, so they keep the same
``dvc.lock``."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from pipeline.catalog import CATALOG
from pipeline.core import digests, disk, errors, files
from pipeline.core.allocation import share_one_heap
from pipeline.core.context import Context
from pipeline.core.errors import GraftlineError, WorkspaceError
from pipeline.core.files import Document
from pipeline.graph import closure
from pipeline.graph.table import BY_NAME, Stage
from pipeline.params import Settings, load
from pipeline.tracking.session import resolve_uri

STATE = ".graftline"


class Cost(Document):
    """What a stage's last execution took. Not an output: a clock's reading cannot be reproduced."""

    stage: str
    seconds: float
    peak_mb: float
    line: str
    finished: str


def execute(workspace: Path, name: str) -> Cost:
    """Run a stage here and now: load inputs, compute, put every output in place whole.

    A failed stage leaves no output under its final name; what it had to say is kept for the run that started it.
    """
    share_one_heap()
    settings = load(workspace)
    stage = BY_NAME[name]
    started = time.monotonic()
    forget_error(workspace, name)
    try:
        line = _run(workspace, stage, settings)
    except GraftlineError as error:
        _keep_error(workspace, name, error)
        raise
    except Exception as error:
        taken = sum(disk.size_of(workspace / CATALOG[output].path) for output in stage.outputs)
        if (no_room := disk.full(error, workspace, doing=f"stage '{name}'", results_bytes=taken)) is None:
            raise
        _keep_error(workspace, name, no_room)
        raise no_room from error
    cost = Cost(
        stage=name,
        seconds=round(time.monotonic() - started, 3),
        peak_mb=round(_peak_mb(), 1),
        line=line,
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    cost.save(_cost_file(workspace, name))
    return cost


def _run(workspace: Path, stage: Stage, settings: Settings) -> str:
    used = stage.inputs_used(settings)
    _check_present(workspace, stage, used)
    inputs = {name: CATALOG[name].load(workspace) if name in used else None for name in stage.inputs}
    scratch = _scratch(workspace, stage, settings)
    context = Context(
        workspace=workspace,
        seed=settings.seed,
        model=settings.model,
        device=settings.runtime.device,
        scratch=scratch,
        cache=workspace / STATE / "cache",
        tracking_uri=resolve_uri(workspace, settings.tracking.uri),
        workers=settings.runtime.workers,
        scale=settings.scale,
    )
    result = stage.module.run(settings.section(stage.name), context, **inputs)
    for name in stage.outputs:
        result.outputs[name].save(workspace / CATALOG[name].path)
    for old in scratch.parent.glob(f"{stage.name}-*"):
        shutil.rmtree(old)
    return result.line


def _check_present(workspace: Path, stage: Stage, used: Iterable[str]) -> None:
    """An input that is not there was not made yet, or was deleted: both end with the stages before."""
    for name in used:
        place = CATALOG[name].path
        if not (workspace / place).exists():
            raise WorkspaceError(
                expected=f"what stage '{stage.name}' reads",
                found=f"no {place}",
                where=str(workspace),
                remedy=f"Run the stages before it first: graftline run, or dvc repro {stage.name}.",
            )


def _scratch(workspace: Path, stage: Stage, settings: Settings) -> Path:
    """The checkpoint folder of exactly this work: its name digests the params, the inputs and the code."""
    chosen = {key: settings.value(key) for _, key in stage.plugins if key}
    identity = {
        "params": settings.section(stage.name).model_dump(mode="json"),
        "shared": {key: settings.value(key) for key in stage.shared},
        "inputs": {name: digests.of_path(workspace / CATALOG[name].path) for name in stage.inputs_used(settings)},
        "code": closure.digest_of(stage, chosen),
    }
    folder = workspace / STATE / "scratch" / f"{stage.name}-{digests.of_json(identity)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _peak_mb() -> float:
    """Highest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


# -- what a stage's process leaves for the run that started it ---------------------------------------------------------


def load_cost(workspace: Path, name: str) -> Cost | None:
    """Of the stage's last execution; None where its outputs are not of that."""
    path = _cost_file(workspace, name)
    return Cost.load(path) if path.is_file() else None


def forget_cost(workspace: Path, name: str) -> None:
    """What stands where the stage writes is not of its last execution."""
    _cost_file(workspace, name).unlink(missing_ok=True)


def kept_error(workspace: Path, name: str) -> GraftlineError | None:
    """The error that the stage's process ended with, of its own kind; None if it left none (it was killed, say)."""
    path = _error_file(workspace, name)
    return errors.restored(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def forget_error(workspace: Path, name: str) -> None:
    """What the stage says from now on is of its next execution."""
    _error_file(workspace, name).unlink(missing_ok=True)


def _keep_error(workspace: Path, name: str, error: GraftlineError) -> None:
    with contextlib.suppress(OSError):  # on a full disk the run that started the stage has its output to go by
        files.write_text(_error_file(workspace, name), json.dumps(errors.kept(error)))


def _cost_file(workspace: Path, name: str) -> Path:
    return workspace / STATE / "costs" / f"{name}.json"


def _error_file(workspace: Path, name: str) -> Path:
    return workspace / STATE / "errors" / f"{name}.json"
