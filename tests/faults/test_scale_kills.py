"""A process that shares training is killed: all go on from the last checkpoint, and the network is the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

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


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch; the processes read this when they import the engine."""
    monkeypatch.setenv("GRAFTLINE_CHECKPOINT_EVERY_S", "0")


def trained(domains: Any, scratch: Path, workers: int, dies_in: Path | None) -> tuple[str, str]:
    """Digest of the network, and the curves."""
    context = replace(domains.context(scratch=scratch), scale=Scale(workers=workers))
    objective = DyingLoss(dies_in, progress=0.5) if dies_in else None
    work = toy_work(domains, context, epochs=4, batch_norm="train", objective=objective)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit(*work[:6], objective=work.objective)
    finally:
        torch.set_num_threads(before)
    state = {name: value.numpy().tobytes().hex() for name, value in contiguous(work.network.state_dict()).items()}
    return digests.of_json(state), (scratch / "live.jsonl").read_text()


@pytest.mark.parametrize("workers", [2, 3])
def test_sigkill_of_a_process_changes_nothing(
    toy_domains: Any, tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last one dies in the third epoch of the second phase; torchrun starts all of them anew."""
    marker = tmp_path / "died"
    undisturbed = trained(toy_domains, tmp_path / "a", workers, None)
    disturbed = trained(toy_domains, tmp_path / "b", workers, marker)
    assert marker.exists()
    assert "going on from a checkpoint, 3 epoch(s) done" in capfd.readouterr().out
    assert undisturbed == disturbed


def test_processes_that_die_every_time_are_given_up(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker cannot be made, so each attempt dies; the message says how often."""
    monkeypatch.setattr("pipeline.scale.engines.local.RESTARTS", 1)
    with pytest.raises(ServiceError) as error:
        trained(toy_domains, tmp_path / "a", 2, tmp_path / "no such folder" / "died")
    assert "The 2 training processes failed 2 times" in str(error.value)
    assert engine.RESTARTS == 3
