"""dvc.yaml, rendered from the stage table: what ``dvc repro`` runs, and what makes a stage stale.

In this repository a stage depends on the files of its import closure. In a workspace elsewhere it depends on digests of
that code, kept in ``state/code.json``, so that an upgrade of the package is seen there too.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import files
from pipeline.graph import closure
from pipeline.graph.table import STAGES, Stage

if TYPE_CHECKING:
    from pipeline.params import Settings

FILE = "dvc.yaml"
CODE_FILE = "state/code.json"

HEADER = """\
# Rendered by `graftline render` from pipeline/graph/table.py and params.yaml: change those, not this file.
# Stages of your own are kept as they are. Deeper paths below `deps` are the code a stage depends on.
"""


def in_step(workspace: Path, settings: Settings) -> bool:
    """Is the workspace's dvc.yaml what :func:`write` would make of it?"""
    path = workspace / FILE
    return path.is_file() and path.read_text(encoding="utf-8") == text(workspace, settings)


def write(workspace: Path, settings: Settings) -> bool:
    """Bring dvc.yaml and the code digests in step with the settings and the installed code; True if either changed."""
    changed = _write_code_digests(workspace)
    if not in_step(workspace, settings):
        files.write_text(workspace / FILE, text(workspace, settings))
        changed = True
    return changed


def text(workspace: Path, settings: Settings) -> str:
    """The whole file: our stages, then any the user has added, then plots."""
    from io import StringIO

    written = params.read(workspace / params.FILE)
    document = {"stages": {stage.name: _entry(workspace, stage, settings, written) for stage in STAGES}}
    document["stages"].update(_foreign_stages(workspace / FILE))
    document["plots"] = _plots()  # type: ignore[assignment]
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(document, stream)
    return HEADER + stream.getvalue()


def is_this_repository(workspace: Path) -> bool:
    return workspace.resolve() == closure.CODE_ROOT


def _entry(workspace: Path, stage: Stage, settings: Settings, written: Collection[str]) -> dict[str, Any]:
    """One stage; ``written`` are the sections that params.yaml has: DVC refuses to depend on one that is not there."""
    entry: dict[str, Any] = {
        "cmd": f"graftline stage {stage.name}",
        "desc": stage.summary,
        "params": [key for key in (stage.name, *stage.shared) if key in written],
        "deps": [*_data_deps(stage, settings), *(CATALOG[name].path for name in stage.inputs_used(settings))],
    }
    if is_this_repository(workspace):
        entry["deps"] += [path.as_posix() for path in closure.modules_of(stage)]
        entry["deps"] += [_chosen_plugin(package, key) for package, key in _choices(stage, settings)]
    else:
        chosen = [f"{_family(package)}.${{{key}}}" for package, key in _choices(stage, settings)]
        entry["params"].append({CODE_FILE: [stage.name, *chosen]})
    for name in stage.outputs:
        _add_output(entry, name)
    return {key: value for key, value in entry.items() if value}


def _data_deps(stage: Stage, settings: Settings) -> list[str]:
    """What lies outside the graph: the images ingest reads, a team's own suites, the checkpoint file backbone reads."""
    if stage.name == "ingest":
        from pipeline.core import plugins

        chosen = [source for source in (settings.ingest.target, settings.ingest.source) if source is not None]
        places = [plugins.load("pipeline.data.sources", source.name).location(source) for source in chosen]
        return [place for place in places if place is not None]
    if stage.name == "validate":
        return [settings.validate_.suites] if settings.validate_.suites else []
    if stage.name == "backbone":
        file = getattr(settings.backbone.weights, "file", None)
        return [] if file is None else [str(file.expanduser())]
    return []


def _choices(stage: Stage, settings: Settings) -> list[tuple[str, str]]:
    """(package, key) of the plug-ins that params choose for this stage, less those set to null."""
    return [(package, key) for package, key in stage.plugins if key and settings.value(key) is not None]


def _chosen_plugin(package: str, key: str) -> str:
    """The plug-in's file, the name filled in by DVC from params.yaml."""
    return f"{package.replace('.', '/')}/${{{key}}}.py"


def _add_output(entry: dict[str, Any], name: str) -> None:
    artefact = CATALOG[name]
    if artefact.kind == "metrics":
        entry.setdefault("metrics", []).append({artefact.path: {"cache": False}})
    else:
        entry.setdefault("outs", []).append(artefact.path)


def _foreign_stages(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    ours = {stage.name for stage in STAGES}
    stages = (YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}).get("stages") or {}
    return {name: entry for name, entry in stages.items() if name not in ours}


def _plots() -> list[dict[str, Any]]:
    folder = CATALOG["plots"].path
    return [
        {
            "confusion": {
                "title": "Confusion on the test images",
                "template": "confusion",
                "x": "actual",
                "y": {f"{folder}/confusion.csv": "predicted"},
            }
        },
        {
            "reliability": {
                "title": "Reliability: accuracy against confidence",
                "template": "linear",
                "x": "confidence",
                "y": {f"{folder}/reliability.csv": "accuracy"},
            }
        },
        {
            "curves": {
                "title": "Validation loss by optimizer step",
                "template": "linear",
                "x": "step",
                "y": {f"{folder}/curves.csv": "val_loss"},
            }
        },
    ]


def _write_code_digests(workspace: Path) -> bool:
    """The digest of every stage's code, and of every plug-in: they depend on the installed package alone."""
    if is_this_repository(workspace):
        return False
    families = {package for stage in STAGES for package, key in stage.plugins if key}
    fresh = {stage.name: closure.digest_of(stage) for stage in STAGES} | {
        _family(package): closure.plugin_digests(package) for package in sorted(families)
    }
    path = workspace / CODE_FILE
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == fresh:
        return False
    files.write_text(path, json.dumps(fresh, indent=2) + "\n")
    return True


def _family(package: str) -> str:
    """``pipeline.training.strategies`` → ``strategies``."""
    return package.rpartition(".")[2]
