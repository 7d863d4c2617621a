"""The Prefect server dies in the middle of a run, for real: said in words, and the next run goes on from there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from integration_tools import GRAFTLINE, environment, graftline

from flows import prefect_server, services
from flows.services import Running
from pipeline.graph import through_dvc
from pipeline.release.history import History

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.fixture
def server(copy_of: Path) -> Iterator[Running]:
    own = prefect_server.service(copy_of, services.port_for(0, prefect_server.NAME))
    with services.temporary(own, copy_of) as running:
        services.wait(running)
        yield running


def kill(server: Running) -> None:
    """SIGKILL, it and its workers."""
    family = psutil.Process(server.pid).children(recursive=True)
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)


def hang(server: Running) -> None:
    """SIGSTOP: connections are taken, and nothing is answered."""
    for process in psutil.Process(server.pid).children(recursive=True):
        process.suspend()


@pytest.mark.parametrize(("end", "error"), [(kill, "ConnectError"), (hang, "ReadTimeout")])
def test_a_prefect_server_that_dies_after_training(
    copy_of: Path, server: Running, end: Callable[[Running], None], error: str
) -> None:
    """The run ends with one message (Prefect itself waits some minutes for its server); a run without the server finds
    the stages that were done, finishes the others, and there is one version more."""
    more = ("run", "--set", "train.strategy.name=lp_ft", "--set", "train.strategy.epochs=2")
    run = subprocess.Popen(
        [*GRAFTLINE, *more, "-C", copy_of],
        env={**environment(), "PREFECT_API_URL": f"{server.url}/api", "PREFECT_API_REQUEST_TIMEOUT": "5"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    before = []
    while not before or not before[-1].startswith("train "):
        before.append(run.stdout.readline())
        assert before[-1], "".join(before)
    end(server)
    after, _ = run.communicate()
    assert 1 == run.returncode, after
    assert f"graftline: The Prefect server {server.url}/api does not answer: {error}." in after
    assert "What the stages have made is kept." in after
    assert "our fault" not in after
    assert "v1" == os.readlink(copy_of / "handoff/current")
    ended = graftline("run", "--inline", workspace=copy_of)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    trained = next(line for line in ended.stdout.splitlines() if line.startswith("train "))
    assert trained.endswith("(unchanged)")
    assert [1, 2] == sorted({entry.version for entry in History(copy_of).entries})
    assert {} == through_dvc.stale(copy_of)
