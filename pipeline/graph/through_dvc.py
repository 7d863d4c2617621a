"""A run's stages through DVC, which knows what is stale, runs a stage's command, and records what came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import disk
from pipeline.core.errors import BusyError, StageError, WorkspaceError
from pipeline.graph import dvcfile, executor, outside, torn
from pipeline.graph.dvc_process import DvcProcess
from pipeline.graph.table import BY_NAME

BUSY_TRIES, BUSY_DELAY_S = 60, 1.0
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
"""What DVC says on its standard error where another DVC command holds the repository, or a file of the stage."""


RESTORED = "outputs of an earlier run on the same inputs, out of DVC's cache"


class Ran(NamedTuple):
    """``fresh`` is False where DVC found nothing to do; ``line`` is then that of the last execution, or empty where the
    outputs are those of an earlier one."""

    stage: str
    fresh: bool
    line: str
    seconds: float


class Dvc:
    """DVC in a workspace that is ours; a context, at whose end the process that ran the stages ends.

    What is stale is asked once for all stages, and one by one once something has moved.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._stale: dict[str, list[str]] | None = None
        self._has_moved = False
        self._process = DvcProcess(workspace)

    def __enter__(self) -> Dvc:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._process.close()
        if kind is not None:  # interrupted, perhaps while DVC wrote who holds what: status must be able to read that
            with contextlib.suppress(OSError):  # a full disk is what the error itself tells
                list(torn.mend_holders(self._workspace))

    def is_stale(self, name: str) -> bool:
        """Would this stage run again? Raises what :func:`stale` raises."""
        if self._has_moved:
            return bool(stale(self._workspace, name))
        if self._stale is None:
            self._stale = stale(self._workspace)
        return name in self._stale

    def moved(self) -> None:
        """A stage ran, or a file that stages read was written."""
        self._has_moved = True

    def reproduce(self, name: str, *, emit: Callable[[str], None] = print) -> Ran:
        """Bring one stage up to date; ``emit`` gets what the stage says on the way.

        Raises:
            InputError: the stage refused the user's input; the message is the stage's own.
            StageError: it failed for another reason; the end of its output is in the message.

        Either way the outputs of the last run are there again, but for what the stage itself has left in their place.
        """
        workspace = self._workspace
        outside.check(workspace, BY_NAME[name], params.load(workspace))
        if not self.is_stale(name):
            cost = executor.load_cost(workspace, name)
            return Ran(name, fresh=False, line=cost.line if cost else "", seconds=0.0)
        started, before = time.monotonic(), executor.load_cost(workspace, name)
        executor.forget_error(workspace, name)
        self.moved()
        try:
            with torn.keeping(workspace, name):
                self._repro(name, emit)
        except BaseException:  # also interrupted
            self._bring_back(name)
            raise
        cost = executor.load_cost(workspace, name)
        if cost is not None and cost == before:
            executor.forget_cost(workspace, name)  # of another execution, on other inputs
            cost = None
        return Ran(name, fresh=True, line=cost.line if cost else RESTORED, seconds=time.monotonic() - started)

    def _repro(self, name: str, emit: Callable[[str], None]) -> None:
        for _ in range(BUSY_TRIES):
            code, tail = self._process.repro(name, emit)
            if code == 0:
                return
            if not any(words in tail for words in BUSY):
                break
            time.sleep(BUSY_DELAY_S)
        if (kept := executor.kept_error(self._workspace, name)) is not None:
            raise kept
        failure = StageError(f"Stage '{name}' failed (exit {code}):\n{tail}")
        raise disk.full(failure, self._workspace, doing=f"stage '{name}'") or failure

    def _bring_back(self, name: str) -> None:
        """The outputs that DVC removed before it ran the stage, and the stage has not made: out of DVC's cache. What
        that has no more (a collection of garbage, an output that DVC does not cache) the next run makes again."""
        outputs = [self._workspace.resolve() / CATALOG[output].path for output in BY_NAME[name].outputs]
        lost = [str(path) for path in outputs if not path.exists()]
        if not lost:
            return
        with contextlib.suppress(Exception), Repo(str(self._workspace)) as repo:
            recorded = [path for path in lost if any(out.hash_info for out in repo.find_outs_by_path(path))]
            if recorded:  # DVC takes no target for every target
                repo.checkout(recorded, force=True)


def stale(workspace: Path, name: str | None = None, *, wait: bool = True) -> dict[str, list[str]]:
    """Why each stage, or this one, would run again, in DVC's words; stages that are up to date are left out.

    Raises:
        BusyError: another DVC command held the repository, all the while where it is to ``wait``.
        WorkspaceError: DVC cannot read dvc.yaml or finds no repository.
        InputError: what a stage reads from outside holds something that is no file.
    """
    if (workspace / params.FILE).is_file():  # where there is none, DVC says what else is missing
        settings = params.load(workspace)
        for stage in BY_NAME.values() if name is None else [BY_NAME[name]]:
            outside.check_kinds(workspace, stage, settings)
    file = workspace.resolve() / dvcfile.FILE
    # A bare name is sought in the current folder. All stages at once take DVC the time of three one by one.
    target = str(file) if name is None else f"{file}:{name}"
    with _asking_dvc(workspace), Repo(str(workspace)) as repo:
        status = _when_free(lambda: repo.status(targets=[target]), BUSY_TRIES if wait else 1)
    changed = {target.rpartition(":")[2]: changes for target, changes in status.items()}
    return {stage: _reasons(changed[stage]) for stage in BY_NAME if stage in changed}


@contextlib.contextmanager
def _asking_dvc(workspace: Path) -> Iterator[None]:
    """What DVC says of a broken dvc.yaml, a locked or a missing repository, in our form."""
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


def _when_free(ask: Callable[[], Any], tries: int) -> Any:
    """Ask again while another DVC command holds the repository; such commands are done within :data:`BUSY_TRIES`."""
    for _ in range(tries - 1):
        try:
            return ask()
        except LockError:
            time.sleep(BUSY_DELAY_S)
    return ask()


def _reasons(changes: list[str | dict[str, dict[str, str | dict[str, str]]]]) -> list[str]:
    """``[{"changed deps": {"x": "modified", "params.yaml": {"train": "modified"}}}, "changed command"]`` as
    ``["x modified", "params train modified", "command changed"]``."""
    reasons = []
    for change in changes:
        if isinstance(change, str):
            reasons.append(" ".join(reversed(change.split())))
            continue
        for what in change.values():
            reasons += [f"{name} {state}" for name, state in _flat(what)]
    return reasons


def _flat(changed: Mapping[str, str | Mapping[str, str]]) -> Iterable[tuple[str, str]]:
    """Files as they are named; keys of params.yaml and of the code's digests as what they are."""
    kinds = {params.FILE: "params", dvcfile.CODE_FILE: "code of"}
    for name, state in changed.items():
        if isinstance(state, str):
            yield name, state
        else:
            yield from ((f"{kinds.get(name, name)} {key}", inner) for key, inner in state.items())
