"""SIGKILL in the middle of every stage, for real: the next run goes on from there and ends with the same digests."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from integration_tools import environment, outputs_of, small_workspace

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.graph.table import STAGES

WITH_CHECKPOINTS = {"backbone", "train"}

RUN_IS_KILLED = {"validate", "train", "export", "gate"}
"""In these the victim is the run that waits for the stage, as when a terminal is closed; in the others it is the
stage's own process, as when memory ran out."""

GRADIENT = (
    "backbone.pretrain.epochs=6",
    "backbone.pretrain.threads=1",
    "features.threads=1",
    "train.strategy.name=lp_ft",
    "train.strategy.epochs=6",
)
"""Both stages with checkpoints train for some epochs, and round alike whatever cores are free."""

PATIENCE_S = 120


def a_workspace(folder):
    workspace = small_workspace(folder)
    params.assign(workspace, list(GRADIENT))
    return workspace


def start(workspace):
    """``graftline run --inline``, with a checkpoint after every epoch."""
    return subprocess.Popen(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "run", "--inline", "-C", str(workspace)],
        env={**environment(), "GRAFTLINE_CHECKPOINT_EVERY_S": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run):
    output, _ = run.communicate()
    assert run.returncode == 0, output
    return output


def until(found, run, what):
    """The first truthy answer of ``found``."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert run.poll() is None, f"the run ended before {what}:\n{run.stdout.read()}"
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return answer


def leaf(run, stage):
    """The stage's own process: the last of the chain run → dvc → shell → stage."""
    try:
        found = [child for child in psutil.Process(run.pid).children(recursive=True) if not child.children()]
        return next((child for child in found if child.cmdline()[-2:] == ["stage", stage]), None)
    except psutil.NoSuchProcess:
        return None


def checkpoints(workspace, stage):
    return list((workspace / ".graftline/scratch").glob(f"{stage}-*/*.checkpoint.pt"))


def kill(process):
    """SIGKILL one process; it may have ended by itself a moment before."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def partial_files(workspace):
    """What interrupted writing left beside a final name."""
    hidden = {".dvc", ".git", ".graftline"}
    return [
        path
        for path in workspace.rglob(".*.*")
        if path.is_dir() and not hidden & set(path.relative_to(workspace).parts) and path.name.count(".") > 1
    ]


@pytest.fixture
def undisturbed(tmp_path):
    """A run that nobody kills, on the other core; calling this waits for it and answers with its digests."""
    workspace = a_workspace(tmp_path / "undisturbed")
    run = start(workspace)

    def digests_at_last():
        finish(run)
        return outputs_of(workspace)

    yield digests_at_last
    run.kill()


@pytest.mark.timeout(600)
def test_a_run_killed_in_every_stage_ends_with_the_same_digests(undisturbed, tmp_path):
    """One kill per stage; then the run is left alone, and is as if nothing had happened.

    Where there are checkpoints the kill waits for the first, so that the next run has something to go on from; the
    other stages are hit at any moment. Whatever lies under a final name is whole, always.
    """
    chance, workspace = random.Random(0), a_workspace(tmp_path / "killed")
    resumed = 0
    for stage in STAGES:
        run = start(workspace)
        process = until(lambda: leaf(run, stage.name), run, f"{stage.name} began")  # noqa: B023 - called at once
        if stage.name in WITH_CHECKPOINTS:
            until(lambda: checkpoints(workspace, stage.name), run, f"{stage.name} kept a checkpoint")  # noqa: B023
        else:
            time.sleep(chance.uniform(0, 1.5))
        kill(run.pid if stage.name in RUN_IS_KILLED else process.pid)
        output, _ = run.communicate()
        resumed += output.count("going on from a checkpoint")
        assert not (stage.name in WITH_CHECKPOINTS and not checkpoints(workspace, stage.name))
        for name in stage.outputs:
            if (workspace / CATALOG[name].path).exists():
                CATALOG[name].load(workspace)
    finish(start(workspace))
    assert resumed == len(WITH_CHECKPOINTS)
    assert outputs_of(workspace) == undisturbed()
    assert os.readlink(workspace / "handoff/current") == "v1"
    assert partial_files(workspace) == []
