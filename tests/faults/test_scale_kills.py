"""A process that shares training is killed: all go on from the last checkpoint, and the network is the same bytes.

And if the stage is killed that started them, they end with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from scale_tasks import DyingLoss, toy_work

from pipeline.core import digests
from pipeline.core.errors import ServiceError
from pipeline.models.network import contiguous
from pipeline.scale import engine
from pipeline.scale.options import Scale
from pipeline.training.engine import fit

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch; the processes read this when they import the engine."""
    monkeypatch.setenv("GRAFTLINE_CHECKPOINT_EVERY_S", "0")


def trained(domains: Any, scratch: Path, workers: int, objective: DyingLoss | None) -> tuple[str, str]:
    """Digest of the network, and the curves."""
    context = replace(domains.context(scratch=scratch), scale=Scale(workers=workers))
    work = toy_work(domains, context, epochs=4, batch_norm="train", objective=objective)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit(*work[:6], objective=work.objective)
    finally:
        torch.set_num_threads(before)
    state = {name: value.numpy().tobytes().hex() for name, value in contiguous(work.network.state_dict()).items()}
    return digests.of_json(state), (scratch / "live.jsonl").read_text()


@pytest.mark.parametrize("victim", [0, -1])
@pytest.mark.parametrize("workers", [2, 3])
def test_sigkill_of_a_process_changes_nothing(
    toy_domains: Any, tmp_path: Path, workers: int, victim: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """It dies in the third epoch of the second phase, also the one that writes; torchrun starts all of them anew."""
    marker = tmp_path / "died"
    undisturbed = trained(toy_domains, tmp_path / "a", workers, None)
    disturbed = trained(toy_domains, tmp_path / "b", workers, DyingLoss(marker, 0.5, victim))
    assert marker.exists()
    assert "going on from a checkpoint, 3 epoch(s) done" in capfd.readouterr().out
    assert undisturbed == disturbed


def test_processes_that_die_every_time_are_given_up(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt dies; the message says how often."""
    monkeypatch.setattr("pipeline.scale.engines.local.RESTARTS", 1)
    with pytest.raises(ServiceError) as error:
        trained(toy_domains, tmp_path / "a", 2, DyingLoss(None, 0.5))
    assert "The 2 training processes failed 2 times" in str(error.value)
    assert engine.RESTARTS == 3


STAGE = """
import sys
from functools import partial
from pathlib import Path
import torch
from scale_tasks import wait_for_each_other
from pipeline.scale import together
from pipeline.scale.options import Scale
folder = Path(sys.argv[1])
if __name__ == "__main__":
    together.run(partial(wait_for_each_other, folder), Scale(workers=2), folder, torch.device("cpu"))
"""


@pytest.mark.parametrize("ignored", [False, True])
def test_sigkill_of_the_stage_leaves_no_process(tmp_path: Path, ignored: bool) -> None:
    """Nor one that waits inside torch, nor ones started where Ctrl-C is ignored, as under ``nohup … &``: they would go
    on beside the next run, and write over its checkpoints.
    """
    program = tmp_path / "stage.py"
    program.write_text(STAGE, encoding="utf-8")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else signal.getsignal(signal.SIGINT)
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    try:
        stage = subprocess.Popen([sys.executable, program, tmp_path], env=os.environ | {"PYTHONPATH": path})
    finally:
        signal.signal(signal.SIGINT, before)
    family: list[psutil.Process] = []
    try:
        _wait_until(lambda: len(list(tmp_path.glob("* is there"))) == 2)
        family = psutil.Process(stage.pid).children(recursive=True)
        assert len(family) >= 2
        stage.kill()
        stage.wait()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert [] == [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        stage.kill()
        stage.wait()


def _wait_until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.1)
