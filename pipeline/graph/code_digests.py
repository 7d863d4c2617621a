"""The digest of every stage's code and of every plug-in, which a workspace outside of this repository depends on.

Which files those are is read from the source of some two hundred, which takes half a second: what came out is kept for
as long as no file of the installed package changes.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pipeline
from pipeline.core import checked, digests
from pipeline.core.file_state import FileState, settled
from pipeline.graph import closure
from pipeline.graph.table import STAGES

FILE = ".graftline/cache/code.checked"


def of_package(workspace: Path) -> dict[str, Any]:
    """By stage ``{name: digest}``, and by family of plug-ins ``{family: {name: digest}}``."""
    files = _files()
    kept = _load(workspace / FILE)
    if files and kept.get("files") == files:
        known: dict[str, Any] = kept["code"]
        return known
    fresh = _computed()
    if files:
        with contextlib.suppress(OSError):  # a disk that is full costs the next run half a second
            checked.write(workspace / FILE, json.dumps({"files": files, "code": fresh}).encode())
    return fresh


def family(package: str) -> str:
    """``pipeline.training.strategies`` → ``strategies``."""
    return package.rpartition(".")[2]


def _computed() -> dict[str, Any]:
    families = {package for stage in STAGES for package, key in stage.plugins if key}
    return {stage.name: closure.digest_of(stage) for stage in STAGES} | {
        family(package): closure.plugin_digests(package) for package in sorted(families)
    }


def _files() -> str | None:
    """One digest of the package's version and what the file system knows of its files; None where one has just been
    changed."""
    states: list[tuple[str, FileState]] = []
    for folder, inside, names in os.walk(closure.PACKAGE_ROOT):
        inside[:] = sorted(name for name in inside if name != "__pycache__")
        for path in (os.path.join(folder, name) for name in sorted(names)):
            state = settled(path)
            if state is None:
                return None
            states.append((path, state))
    return digests.of_json([pipeline.__version__, states])


def _load(file: Path) -> dict[str, Any]:
    try:
        kept = checked.read(file)
    except OSError:
        return {}
    found: dict[str, Any] = {} if kept is None else json.loads(kept)
    return found
