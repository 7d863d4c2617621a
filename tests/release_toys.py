"""What tests of promotions share: the toy workspace of ``tests/integration/test_release.py``, and work in processes."""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.release import history, moves, steps
from pipeline.tracking import session as tracking_session
from pipeline.tracking.registry import Registry


def _toys() -> ModuleType:
    """The integration test is no package."""
    place = Path(__file__).parent / "integration/test_release.py"
    spec = importlib.util.spec_from_file_location("release_toys_of_the_integration_test", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toys = _toys()
Ready = Callable[[], object]
PATIENCE_S = 120
"""For works at once; one that takes nearly as long tells where it stands."""


def import_once() -> None:
    """What every child needs, here and not in each of them."""
    tracking_session._be_quiet()
    for name in ("mlflow.onnx", "mlflow.artifacts", "mlflow.store.tracking.sqlalchemy_store", "onnxruntime"):
        importlib.import_module(name)


def train_in(workspace: Path) -> Callable[..., None]:
    """Stands for the stages of this workspace: ``train(bias, passed=True)``."""
    return toys.train._get_wrapped_function()(workspace)


def in_child(work: Callable[[], object], log: Path) -> int:
    """Do the work in a process of its own; returns how it ended: 0, 1 for an exception, -9 for a kill."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  # the parent tells
            log.write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_once(works: Sequence[Callable[[Ready], object]], log: Path) -> list[object]:
    """Do all of it at the same time, each in a process of its own; returns what they returned, in order.

    Each is given ``ready``: whoever calls it waits until all have called it. An exception in one ends the test with its
    traceback.
    """
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(len(works)), context.SimpleQueue()

    def child(number: int) -> None:
        stacks = log.with_name(f"{log.name} {number}").open("w")
        faulthandler.dump_traceback_later(0.9 * PATIENCE_S, file=stacks)
        try:
            answers.put((number, works[number](lambda: barrier.wait(60))))
        except BaseException:  # noqa: BLE001  # the parent tells
            traceback.print_exc(file=stacks)
            stacks.flush()
            barrier.abort()
            os._exit(1)
        os._exit(0)  # and nothing of what earlier tests have left to be done at this process's end

    children = [context.Process(target=child, args=(number,)) for number in range(len(works))]
    for process in children:
        process.start()
    for process in children:
        process.join(PATIENCE_S)
    codes = [process.exitcode for process in children]
    told = "\n".join(path.read_text() for path in sorted(log.parent.glob(f"{log.name} *")))
    assert [0] * len(works) == codes, f"{codes}: {told}"
    return [answer for _, answer in sorted((answers.get() for _ in works), key=lambda pair: pair[0])]


def wait_before(step: str, ready: Ready) -> None:
    """In this process, the first ``step`` begins when the others are as far. Who comes to it again waits no more."""
    owner: Any = Registry if step == "crown" else steps
    original = getattr(owner, step)

    def together(*arguments: Any, **named: Any) -> Any:
        setattr(owner, step, original)
        ready()
        return original(*arguments, **named)

    setattr(owner, step, together)


def check_agreed(workspace: Path) -> None:
    """Registry, history and hand-off of a workspace with a registry of its own agree, and nothing was done twice."""
    aliases = toys.aliases(workspace)
    entries = history.History(workspace).entries
    chain = history.History(workspace).champions("digits")
    assert chain[-1] == aliases["champion"]
    assert f"v{aliases['champion']}" == toys.pointed(workspace)
    assert aliases.get("previous") == (chain[-2] if len(chain) > 1 else None)
    versions = toys.registry(workspace).versions()
    assert len({version.sha256 for version in versions}) == len(versions)
    assert len({(entry.sequence, entry.action, entry.version) for entry in entries}) == len(entries)
    assert not (workspace / moves.FILE).exists()
    assert (workspace / "handoff/current/model.onnx").is_file()
