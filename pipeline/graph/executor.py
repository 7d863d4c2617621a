"""Runs one stage: :func:`execute` does the work in this process, :func:`reproduce` asks DVC whether it must be done.

``dvc repro``, the Prefect flow and ``--inline`` all end in :func:`execute`, so they keep the same ``dvc.lock``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import digests, disk, errors, files
from pipeline.core.allocation import share_one_heap
from pipeline.core.context import Context
from pipeline.core.errors import BusyError, GraftlineError, StageError, WorkspaceError
from pipeline.core.files import Document
from pipeline.core.progress import STREAM_VARIABLE
from pipeline.graph import closure, dvcfile, outside, torn
from pipeline.graph.table import BY_NAME, Stage
from pipeline.params import Settings, load
from pipeline.tracking.session import resolve_uri

STATE = ".graftline"

PARENT_VARIABLE = "GRAFTLINE_PARENT"
"""Set for a stage's process to the pid of the run that started it: it keeps quiet, and ends when that run is dead."""

BUSY_TRIES, BUSY_DELAY_S = 60, 1.0
DVC_BUSY = "Unable to acquire lock"


class Cost(Document):
    """What a stage's last execution took. Not an output: a clock's reading cannot be reproduced."""

    stage: str
    seconds: float
    peak_mb: float
    line: str
    finished: str


class Ran(NamedTuple):
    """``fresh`` is False where DVC found nothing to do; ``line`` is then that of the last execution."""

    stage: str
    fresh: bool
    line: str
    seconds: float


# -- in this process ---------------------------------------------------------------------------------------------------


def execute(workspace: Path, name: str) -> Cost:
    """Run a stage here and now: load inputs, compute, put every output in place whole.

    A failed stage leaves no output under its final name; what it had to say is kept for the run that started it.
    """
    share_one_heap()
    settings = load(workspace)
    stage = BY_NAME[name]
    started = time.monotonic()
    _error_file(workspace, name).unlink(missing_ok=True)
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


def end_with_parent() -> None:
    """In a stage's process: end as soon as the run that started it is dead, so that no orphan holds DVC's lock."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while Path(f"/proc/{parent}").exists() if Path("/proc").exists() else _is_alive(parent):
        time.sleep(0.5)
    os._exit(1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- through DVC -------------------------------------------------------------------------------------------------------


def stale(workspace: Path, name: str | None = None) -> dict[str, list[str]]:
    """Why each stage, or this one, would run again, in DVC's words; stages that are up to date are left out.

    Raises:
        BusyError: another DVC command held the repository all the while.
        WorkspaceError: DVC cannot read dvc.yaml or finds no repository.
        InputError: what a stage reads from outside holds something that is no file.
    """
    from dvc.repo import Repo

    if (workspace / params.FILE).is_file():  # where there is none, DVC says what else is missing
        settings = load(workspace)
        for stage in BY_NAME.values() if name is None else [BY_NAME[name]]:
            outside.check_kinds(workspace, stage, settings)
    file = workspace.resolve() / dvcfile.FILE
    # A bare name is sought in the current folder. All stages at once take DVC the time of three one by one.
    target = str(file) if name is None else f"{file}:{name}"
    with _asking_dvc(workspace), Repo(str(workspace)) as repo:
        status = _when_free(lambda: repo.status(targets=[target]))
    changed = {target.rpartition(":")[2]: changes for target, changes in status.items()}
    return {stage: _reasons(changed[stage]) for stage in BY_NAME if stage in changed}


@contextlib.contextmanager
def _asking_dvc(workspace: Path) -> Iterator[None]:
    """What DVC says of a broken dvc.yaml, a locked or a missing repository, in our form."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        yield
    except LockError as error:
        raise BusyError(f"Another DVC command holds {workspace}: {error}") from None
    except DvcException as error:
        raise WorkspaceError(
            expected="a workspace that DVC can read",
            found=f"{error}".strip(),
            where=str(workspace / dvcfile.FILE),
            remedy="Mend what DVC names: graftline render writes dvc.yaml anew, dvc init makes a missing .dvc,\n"
            "          and graftline run first mends what a killed one left of DVC's files.",
        ) from None


def _when_free(ask: Callable[[], Any]) -> Any:
    """Ask again while another DVC command holds the repository, for as long as such commands take."""
    from dvc.lock import LockError

    for _ in range(BUSY_TRIES - 1):
        try:
            return ask()
        except LockError:
            time.sleep(BUSY_DELAY_S)
    return ask()


def _reasons(changes: list[str | dict[str, dict[str, str | dict[str, str]]]]) -> list[str]:
    """``[{"changed deps": {"x": "modified"}}, "changed command"]`` as ``["x modified", "command changed"]``."""
    reasons = []
    for change in changes:
        if isinstance(change, str):
            reasons.append(" ".join(reversed(change.split())))
            continue
        for what in change.values():
            reasons += [f"{name} {state}" for name, state in _flat(what)]
    return reasons


def _flat(changed: Mapping[str, str | Mapping[str, str]]) -> Iterable[tuple[str, str]]:
    for name, state in changed.items():
        yield from [(name, state)] if isinstance(state, str) else state.items()


class Freshness:
    """What is stale in a workspace that is ours: asked once for all stages, and one by one once something has moved."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._asked: dict[str, list[str]] | None = None
        self._has_moved = False

    def is_stale(self, name: str) -> bool:
        """Would this stage run again? Raises what :func:`stale` raises."""
        if self._has_moved:
            return bool(stale(self._workspace, name))
        if self._asked is None:
            self._asked = stale(self._workspace)
        return name in self._asked

    def moved(self) -> None:
        """A stage ran, or a file that stages read was written."""
        self._has_moved = True


def reproduce(workspace: Path, name: str, freshness: Freshness, *, emit: Callable[[str], None] = print) -> Ran:
    """Bring one stage up to date by DVC; ``emit`` gets what the stage says on the way.

    Raises:
        InputError: the stage refused the user's input; the message is the stage's own.
        StageError: it failed for another reason; the end of its output is in the message.
    """
    outside.check(workspace, BY_NAME[name], load(workspace))
    if not freshness.is_stale(name):
        cost = _load_cost(workspace, name)
        return Ran(name, fresh=False, line=cost.line if cost else "", seconds=0.0)
    started = time.monotonic()
    _error_file(workspace, name).unlink(missing_ok=True)
    freshness.moved()
    with torn.keeping(workspace, name):
        _dvc_repro(workspace, name, emit)
    cost = _load_cost(workspace, name)
    return Ran(name, fresh=True, line=cost.line if cost else "", seconds=time.monotonic() - started)


def _dvc_repro(workspace: Path, name: str, emit: Callable[[str], None]) -> None:
    for _ in range(BUSY_TRIES):
        code, tail = _spawn(workspace, [sys.executable, "-m", "dvc", "repro", "--single-item", name], emit)
        if code == 0:
            return
        if DVC_BUSY not in tail:
            break
        time.sleep(BUSY_DELAY_S)
    if (kept := _kept_error(workspace, name)) is not None:
        raise kept
    failure = StageError(f"Stage '{name}' failed (exit {code}):\n{tail}")
    raise disk.full(failure, workspace, doing=f"stage '{name}'") or failure


def _spawn(workspace: Path, command: list[str], emit: Callable[[str], None]) -> tuple[int, str]:
    """Run ``command``; pass on what our stages say (they indent it, DVC does not); return its exit code and the end of
    its errors."""
    process = subprocess.Popen(
        command, cwd=workspace, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints: list[str] = []
    reader = threading.Thread(target=lambda: complaints.extend(process.stderr))  # type: ignore[arg-type]
    reader.start()
    for line in process.stdout:
        if line.startswith("  "):
            emit(line.rstrip("\n"))
    reader.join()
    return process.wait(), "".join(complaints[-40:])


def _environment() -> dict[str, str]:
    """For the stage's process: our own commands on the PATH, and a place to draw its progress bar."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    environment[PARENT_VARIABLE] = str(os.getpid())
    environment[STREAM_VARIABLE] = os.ttyname(2) if sys.stderr.isatty() else "/dev/stdout"
    return environment


# -- kept between processes --------------------------------------------------------------------------------------------


def _cost_file(workspace: Path, name: str) -> Path:
    return workspace / STATE / "costs" / f"{name}.json"


def _load_cost(workspace: Path, name: str) -> Cost | None:
    path = _cost_file(workspace, name)
    return Cost.load(path) if path.is_file() else None


def _error_file(workspace: Path, name: str) -> Path:
    return workspace / STATE / "errors" / f"{name}.json"


def _keep_error(workspace: Path, name: str, error: GraftlineError) -> None:
    with contextlib.suppress(OSError):  # on a full disk the run that started the stage has its output to go by
        files.write_text(_error_file(workspace, name), json.dumps(errors.kept(error)))


def _kept_error(workspace: Path, name: str) -> GraftlineError | None:
    """The error that the stage's process ended with, of its own kind; None if it left none (it was killed, say)."""
    path = _error_file(workspace, name)
    return errors.restored(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def is_child() -> bool:
    """Was this process started by a run, which prints what it says?"""
    return PARENT_VARIABLE in os.environ
