"""SIGKILL in the middle of every stage, for real: the next run goes on from there and ends with the same digests."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter

import psutil
import pytest
from integration_tools import GRAFTLINE, environment, outputs_of, small_workspace

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.graph import through_dvc
from pipeline.graph.table import STAGES
from pipeline.release.history import History
from pipeline.tracking.registry import CHAMPION, Registry
from pipeline.tracking.session import open_session

WITH_CHECKPOINTS = {"backbone", "train"}

VICTIMS = {**dict.fromkeys(("validate", "train", "export", "gate"), "run"), "features": "dvc", "explain": "dvc"}
"""In these the victim is the run that waits for the stage, as when a terminal is closed, or DVC between the two; in the
others it is the stage's own process, as when memory ran out."""

KILLS = 100

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
        [*GRAFTLINE, "run", "--inline", "-C", str(workspace)],
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


def processes(run, stage):
    """Pids of the chain run → DVC → shell → stage, once the stage's own process is there."""
    try:
        family = psutil.Process(run.pid).children(recursive=True)
        own = next((child.pid for child in family if child.cmdline()[-2:] == ["stage", stage]), None)
        dvc = next((child.pid for child in family if child.ppid() == run.pid), None)
    except psutil.NoSuchProcess:
        return None
    return {"run": run.pid, "dvc": dvc, "stage": own} if own and dvc else None


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


def check_whole(workspace):
    """What stands under a final name can be read."""
    for name in (name for stage in STAGES for name in stage.outputs):
        if (workspace / CATALOG[name].path).exists():
            CATALOG[name].load(workspace)


def check_agreed(workspace):
    """One version, promoted once: the registry, the history and the hand-off say the same, DVC finds nothing to do."""
    tracking = params.load(workspace).tracking
    registry = Registry(open_session(workspace, tracking.uri, tracking.experiment), "digits")
    assert [version.number for version in registry.versions()] == [1]
    assert registry.at(CHAMPION).number == 1
    assert [(entry.action, entry.version) for entry in History(workspace).entries] == [("promoted", 1)]
    assert os.readlink(workspace / "handoff/current") == "v1"
    assert through_dvc.stale(workspace) == {}
    assert partial_files(workspace) == []


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
def test_a_run_killed_in_every_stage_ends_with_the_same_digests(undisturbed, tmp_path, tally):
    """One kill per stage, then three while the result is recorded and released; then the run is left alone, and is as
    if nothing had happened.

    Where there are checkpoints the kill waits for the first, so that the next run has something to go on from; the
    other stages are hit at any moment. Whatever lies under a final name is whole, always.
    """
    chance, workspace = random.Random(0), a_workspace(tmp_path / "killed")
    resumed = 0
    for stage in STAGES:
        run = start(workspace)
        victims = until(lambda: processes(run, stage.name), run, f"{stage.name} began")  # noqa: B023 - called at once
        if stage.name in WITH_CHECKPOINTS:
            until(lambda: checkpoints(workspace, stage.name), run, f"{stage.name} kept a checkpoint")  # noqa: B023
        else:
            time.sleep(chance.uniform(0, 1.5))
        kill(victims[VICTIMS.get(stage.name, "stage")])
        tally.tried("kills")
        output, _ = run.communicate()
        resumed += output.count("going on from a checkpoint")
        assert not (stage.name in WITH_CHECKPOINTS and not checkpoints(workspace, stage.name))
        check_whole(workspace)
    for _ in range(3):
        run = start(workspace)
        until(lambda: (workspace / ".graftline/costs/package.json").exists(), run, "package ended")
        time.sleep(chance.uniform(0, 3))
        kill(run.pid)
        tally.tried("kills")
        run.communicate()
    finish(start(workspace))
    assert resumed == len(WITH_CHECKPOINTS)
    assert outputs_of(workspace) == undisturbed()
    check_agreed(workspace)
    tally.held("kills", len(STAGES) + 3)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_runs_killed_a_hundred_times_end_with_the_same_digests(undisturbed, tmp_path, tally):
    """At any moment, the run, DVC or the stage's process: a hundred kills over as many retrainings as that takes."""
    chance, kills, ended = random.Random(1), [], 0
    digests = None
    while len(kills) < KILLS:
        workspace = a_workspace(tmp_path / f"killed {ended}")
        while (hit := strike(start(workspace), chance)) is not None:
            kills.append(hit)
            tally.tried("kills")
            check_whole(workspace)
        digests = digests or undisturbed()
        assert outputs_of(workspace) == digests
        check_agreed(workspace)
        tally.held("kills", len(kills) - tally.counts["kills"][1])
        ended += 1
    victims = Counter(victim for victim, _ in kills)
    tally.note(f"over {ended} retrainings {', '.join(f'{count} of {who}' for who, count in victims.most_common())}")
    print(f"{len(kills)} kills in {ended} retrainings:", dict(Counter(kills)))


def strike(run, chance):
    """Kill one of the run's processes at a random moment; ``(victim, what it did)``, or None if the run ended first."""
    deadline = time.monotonic() + chance.uniform(2, 12)
    while time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    if run.poll() is not None:
        finish(run)
        return None
    doing, victims = next(
        ((stage.name, found) for stage in STAGES if (found := processes(run, stage.name))),
        ("between stages", {"run": run.pid}),
    )
    victim = chance.choice(sorted(victims))
    kill(victims[victim])
    run.communicate()
    return victim, doing
