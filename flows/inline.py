"""``graftline run --inline``: the sequence as plain calls, with no Prefect at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flows import sequence
from flows.sequence import Runner, Shown
from flows.steps import Step, attempt
from flows.undoing import reason_of, undo
from pipeline.graph.through_dvc import Ran
from pipeline.release.decide import Outcome


def run(workspace: Path, *, emit: Callable[[str], None] = print, assignments: Sequence[str] = ()) -> Outcome:
    """Retrain in this process; ``emit`` gets one line per stage and the closing line, ``assignments`` (``key=value``)
    go into params.yaml first. Raises what :func:`flows.sequence.retrain` raises."""
    return sequence.retrain(Calls(workspace, emit, assignments))


class Calls(Runner):
    """Every part a plain call; the transaction is a stack of what is to be undone."""

    def __init__(self, workspace: Path, emit: Callable[[str], None], assignments: Sequence[str] = ()) -> None:
        super().__init__(workspace, emit, assignments)
        self._done: list[tuple[Step, Any]] = []

    def stage(self, name: str) -> Ran:
        return self.dvc.reproduce(name, emit=self.say)

    def step(self, step: Step, *arguments: Any) -> Any:
        result = attempt(step, self.workspace, self.settings, *arguments, say=self.say)
        self._done.append((step, result))
        return result

    def show(self, what: Shown) -> None:
        """Nobody looks at plain calls but at the terminal."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._done.clear()
        try:
            yield
        except BaseException as error:
            for step, result in reversed(self._done):
                undo(self, step, result, reason_of(error))
            raise
