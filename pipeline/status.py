"""How a workspace stands: what is stale and why, what became of the verdict, who is champion, what to type next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import lock
from pipeline.core.errors import BusyError
from pipeline.gates._base import Verdict
from pipeline.graph import dvcfile
from pipeline.release.history import Entry, History


class Status(NamedTuple):
    """What ``graftline status`` tells."""

    model: str
    in_step: bool
    """Does dvc.yaml say what params.yaml and the installed code ask for?"""
    has_run: bool
    running: str | None
    """Who is at work in the workspace, as a sentence. What is stale is then not asked: it changes while one looks."""
    stale: dict[str, list[str]] | None
    """Why each stage would run again, in DVC's words; no reasons where none has run."""
    passed: bool | None
    """The gates' verdict on what the stages made; None where they are not known to be up to date, or there is none."""
    decided: Entry | None
    """What was decided on that verdict."""
    is_overruled: bool
    """Was it held, and somebody has promoted the version since?"""
    champion: Entry | None
    """The decision that made the present champion."""

    @property
    def next(self) -> str:
        """What to do."""
        if self.running:
            return "wait until that is done"
        return "change the data or params.yaml, then graftline run" if self.decided else "graftline run"

    @property
    def lines(self) -> Iterator[str]:
        """For people."""
        if not self.in_step:
            yield "dvc.yaml   out of step with params.yaml (graftline run mends it; graftline render does only that)"
        if self.stale is None:
            yield f"stages     at work: {self.running}"
        elif not self.stale:
            yield "stages     all up to date"
        elif not self.has_run:
            yield "stages     none has run yet"
        for name, reasons in self.stale.items() if self.stale and self.has_run else ():
            more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            yield f"{name:<10} stale: {', '.join(reasons[:3])}{more}"
        if (told := self._verdict_told) is not None:
            yield f"verdict    {told}"
        yield f"champion   {self.champion.champion_line if self.champion else 'none yet'}"
        yield f"next       {self.next}"

    @property
    def _verdict_told(self) -> str | None:
        """One that waits, or that holds its model; of a model that was promoted, the champion's line tells."""
        if self.decided is not None:
            holds = self.decided.action == "held" and not self.is_overruled
            return f"v{self.decided.version} held · {self.decided.reason}" if holds else None
        if self.passed is None:
            return None
        return f"{'passed' if self.passed else 'failed'}, and nothing decided on it yet"

    @property
    def record(self) -> dict[str, Any]:
        """For programs; decisions are as ``graftline history --json`` has them."""
        decisions = {"decided": self.decided, "champion": self.champion}
        told = {name: entry and entry.model_dump(mode="json") for name, entry in decisions.items()}
        return {**self._asdict(), **told, "next": self.next}


def status_of(workspace: Path) -> Status:
    """Look at ``workspace``.

    Raises:
        ParamsError: params.yaml is missing or wrong.
        WorkspaceError, InputError: as :func:`pipeline.graph.through_dvc.stale`.
    """
    from pipeline.graph import torn
    from pipeline.release import decide

    settings, history = params.load(workspace), History(workspace)
    running, stale = _at_work(workspace)
    has_run = (workspace / torn.LOCK).is_file()
    if stale and not has_run:
        stale = {name: [] for name in stale}  # DVC would call everything deleted
    is_done = stale == {}
    decided = decide.decision(workspace, settings.model) if is_done else None
    return Status(
        model=settings.model,
        in_step=dvcfile.in_step(workspace, settings),
        has_run=has_run or is_done,
        running=running,
        stale=stale,
        passed=_passed(workspace) if is_done else None,
        decided=decided,
        is_overruled=decided is not None
        and decided.action == "held"
        and history.is_overruled(decided.model, decided.version),
        champion=history.last_champion(settings.model),
    )


def _at_work(workspace: Path) -> tuple[str | None, dict[str, list[str]] | None]:
    """Who is, and, where nobody is, which stages are stale and why."""
    from pipeline.graph import through_dvc

    if lock.is_held(workspace):
        return lock.holder(workspace), None
    try:
        return None, through_dvc.stale(workspace, wait=False)
    except BusyError:
        return f"another DVC command holds {workspace}", None


def _passed(workspace: Path) -> bool | None:
    path = workspace / CATALOG["verdict"].path
    return Verdict.load(path).passed if path.is_file() else None
