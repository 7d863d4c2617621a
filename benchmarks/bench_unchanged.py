"""Claim: a run that finds nothing to do ends in seconds, Prefect's start included; `dvc repro` agrees with it.

One small workspace is run once; then ``graftline run`` (with a Prefect server of its own, and beside one that runs
already), ``graftline run --inline``, ``dvc repro`` and ``graftline status`` are timed as whole processes, in turn.
``--write`` puts the table into the docs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from _bench import REPOSITORY, provenance, replace_section, table, temporary_workspace

from flows import prefect_server, services
from pipeline import params

ROUNDS = 5
BESIDE = "graftline run (beside a Prefect server)"
COMMANDS = {
    "graftline run (Prefect, its own server)": ["graftline", "run"],
    BESIDE: ["graftline", "run"],
    "graftline run --inline": ["graftline", "run", "--inline"],
    "dvc repro": ["dvc", "repro"],
    "graftline status": ["graftline", "status"],
    "graftline --help": ["graftline", "--help"],
}
SMALL = ["ingest.source.images_per_class=30", "backbone.pretrain.epochs=2", "train.strategy.name=probe"]


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with temporary_workspace() as folder:
        params.assign(folder, [*SMALL, "gate.gates.accuracy_floor.min=0.1"])
        _timed(["graftline", "run", "--inline"], folder)
        elsewhere = folder.parent / "server"
        elsewhere.mkdir()
        server = prefect_server.service(elsewhere, services.port_for(0, prefect_server.NAME))
        with services.temporary(server, elsewhere) as running:
            services.wait(running)
            there = {prefect_server.API_URL: f"{running.url}/api"}
            for _ in range(ROUNDS):
                for name, command in COMMANDS.items():
                    seconds[name].append(_timed(command, folder, there if name == BESIDE else {}))
    rows = [
        [f"`{name}`", f"{statistics.median(taken):.2f}", f"{min(taken):.2f} – {max(taken):.2f}"]
        for name, taken in seconds.items()
    ]
    text = f"{table(['command', 'median s', 'range'], rows)}\n\n{ROUNDS} rounds, taken in turn; {provenance()}."
    print(text)
    if "--write" in sys.argv:
        replace_section(REPOSITORY / "docs" / "results.md", "unchanged", text)


def _timed(command: list[str], folder: Path, more: Mapping[str, str] = MappingProxyType({})) -> float:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, **more, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    started = time.perf_counter()
    subprocess.run([scripts / command[0], *command[1:]], cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
