"""Graftline, as a user types it: ``graftline init``, ``graftline run --inline``, then the model that was handed off.

The probe of the photos' template on the same weights; the whole run counts: checks, features, export, evaluation, maps
and attacks, gates, bundle, registry, hand-off, report. Where ``--work`` holds a workspace, only ``run`` is typed. There
is no limit of seconds to give it: ``--budget-s`` is taken and not used.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from job import Job, job_of

STRATEGY = "probe"


def main() -> None:
    job = job_of("Graftline")
    job.budget_s = math.inf
    workspace = job.work / "workspace"
    job.phase_ends("start")
    if not workspace.exists():
        _told_by(["init", str(workspace), "--target", str(job.folder)])
        job.phase_ends("init")
    stages, model_s = _run(job, workspace)
    job.training_ended(complete=True)
    job.phase_ends("run")
    with job.standing_still():
        accuracy = _accuracy_of_bundle(job, workspace)
    _hold_equal(accuracy, workspace)
    verdict = json.loads((workspace / "reports" / "verdict.json").read_text())
    versions = ("torch", "onnxruntime")
    job.finish(accuracy, versions, gates_passed=verdict["passed"], stages_s=stages, model_s=model_s)


def _run(job: Job, workspace: Path) -> tuple[dict[str, float], float]:
    """The whole run; seconds by stage, from lines like ``train  probe · …  (3.4 s)``, and when the model was there."""
    settings = [
        f"train.strategy.name={STRATEGY}",
        "backbone.name=resnet18",
        f"backbone.weights={{file: {job.weights}}}",
    ]
    stages: dict[str, float] = {}
    model_s = 0.0
    for line in _lines(["run", "--inline", "-C", str(workspace), *(f"--set={setting}" for setting in settings)]):
        if found := re.match(r"(\w+) .*\((?:(\d+\.\d) s|unchanged)\)$", line):
            stages[found[1]] = float(found[2] or 0)
            if found[1] == "export":
                model_s = round(job.seconds, 2)
    return stages, model_s


def _told_by(arguments: list[str]) -> str:
    return "".join(_lines(arguments))


def _lines(arguments: list[str]) -> Iterator[str]:
    """What the command says, line by line as it comes; this process ends where it fails."""
    command = [str(Path(sys.executable).parent / "graftline"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if arguments[0] == "run":
            print(line, end="", flush=True)
        yield line
    if code := process.wait():
        sys.exit(f"graftline {arguments[0]} ended with {code}")


def _accuracy_of_bundle(job: Job, workspace: Path) -> float:
    """Of the bundle this run made, on the test files themselves, by their folders' names."""
    table = _told_by(["predict", "challenger", str(job.folder / "test"), "--csv", "-C", str(workspace)])
    rows = list(csv.DictReader(io.StringIO(table)))
    return sum(row["label"] == Path(row["image"]).parent.name for row in rows) / len(rows)


def _hold_equal(accuracy: float, workspace: Path) -> None:
    """The run's own figure must be that of its bundle."""
    stated = json.loads((workspace / "reports" / "metrics.json").read_text())["accuracy"]
    if abs(stated - accuracy) > 1e-9:
        sys.exit(f"the run states a test accuracy of {stated}, its bundle answers {accuracy} rightly")


if __name__ == "__main__":
    main()
