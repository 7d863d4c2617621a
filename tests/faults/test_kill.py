"""SIGKILL in the middle of every stage, for real: the next run goes on from there and ends with the same digests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from integration_tools import environment, graftline, small_workspace

from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.graph.table import STAGES

FROM_A_CLOCK = {"latency", "verdict", "bundle", "data_docs"}
"""Outputs that tell measured times or dates; every other one must be equal bit for bit."""

PATIENCE_S = 180


def outputs_of(workspace):
    names = [name for stage in STAGES for name in stage.outputs if name not in FROM_A_CLOCK]
    return {name: digests.of_path(workspace / CATALOG[name].path) for name in names}


def start(workspace):
    return subprocess.Popen(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "run", "--inline", "-C", str(workspace)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_stage_works(workspace, stage, run):
    """Return once the stage's own process is at work: it has made its scratch folder."""
    deadline = time.monotonic() + PATIENCE_S
    scratch = workspace / ".graftline/scratch"
    while not list(scratch.glob(f"{stage}-*")):
        assert run.poll() is None, f"the run ended before {stage} began:\n{run.stdout.read()}"
        assert time.monotonic() < deadline, f"{stage} never began"
        time.sleep(0.02)


def partial_files(workspace):
    """Files of interrupted writing that lie under a final name's place."""
    hidden = {".dvc", ".git", ".graftline"}
    return [
        path
        for path in workspace.rglob(".*.*")
        if path.is_dir() and not hidden & set(path.relative_to(workspace).parts) and path.name.count(".") > 1
    ]


@pytest.mark.timeout(900)
def test_a_run_killed_in_every_stage_ends_with_the_same_digests(finished, tmp_path):
    """Nine kills, one per stage; then the run is left alone, and is as if nothing had happened."""
    workspace = small_workspace(tmp_path / "killed")
    for stage in STAGES:
        run = start(workspace)
        wait_until_stage_works(workspace, stage.name, run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        for name in stage.outputs:
            saved = workspace / CATALOG[name].path
            if saved.exists():
                CATALOG[name].load(workspace)  # whole, whenever it is there at all
    done = graftline("run", "--inline", workspace=workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs_of(workspace) == outputs_of(finished)
    assert os.readlink(workspace / "handoff/current") == "v1"
    assert partial_files(workspace) == []
