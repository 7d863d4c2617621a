"""dvc.yaml, rendered from the stage table: what ``dvc repro`` runs, and what makes a stage stale.

In this repository a stage depends on the files of its import closure. In a workspace elsewhere it depends on digests of
that code, kept in ``state/code.json``, so that an upgrade of the package is seen there too.
"""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import files
from pipeline.core.errors import WorkspaceError
from pipeline.graph import closure, code_digests, outside
from pipeline.graph.table import STAGES, Stage

if TYPE_CHECKING:
    from pipeline.params import Settings

FILE = "dvc.yaml"
CODE_FILE = "state/code.json"

HEADER = """\
# Rendered by `graftline render` from pipeline/graph/table.py and params.yaml: change those, not this file.
# What you add (stages, plots, artifacts) is kept. Paths to .py files below `deps` are the code a stage depends on.
"""


def in_step(workspace: Path, settings: Settings) -> bool:
    """Is the workspace's dvc.yaml what :func:`write` would make of it?"""
    path = workspace / FILE
    return path.is_file() and path.read_text(encoding="utf-8") == text(workspace, settings)


def require_tracked(workspace: Path, stage: Stage, settings: Settings) -> None:
    """What the stage is about to read, and the plug-ins it runs, are among its deps; else DVC would not notice when one
    of them changes. `dvc exp run -S` can ask for what dvc.yaml was not rendered for.

    Raises:
        WorkspaceError: params.yaml asks for a dep that dvc.yaml, rendered before, does not name.
    """
    entry = params.read(workspace / FILE)["stages"][stage.name] if (workspace / FILE).is_file() else {}
    tracked = entry.get("deps", [])
    wanted = _entry(workspace, stage, settings, params.read(workspace / params.FILE)).get("deps", [])
    places = {f"${{{place.key}}}": place.path for place in outside.places(stage, settings)}
    for dep in wanted:
        if dep not in tracked and places.get(dep, dep) not in tracked:
            raise WorkspaceError(
                expected=f"'{places.get(dep, dep)}' among the deps of stage {stage.name}",
                found=f"a {FILE} that was rendered for other parameters",
                where=str(workspace / FILE),
                remedy="graftline render (graftline run does it by itself).",
            )


def write(workspace: Path, settings: Settings) -> bool:
    """Bring dvc.yaml and the code digests in step with the settings and the installed code; True if either changed."""
    changed = _write_code_digests(workspace)
    if not in_step(workspace, settings):
        files.write_text(workspace / FILE, text(workspace, settings))
        changed = True
    return changed


def text(workspace: Path, settings: Settings) -> str:
    """The whole file: our stages and plots, and whatever else the user has put there."""
    written = params.read(workspace / params.FILE)
    document = _kept(workspace / FILE)
    own = document.pop("stages", {})
    ours = {stage.name: _entry(workspace, stage, settings, written) for stage in STAGES}
    plots = document.pop("plots", [])
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump({"stages": {**ours, **own}, "plots": [*_plots(), *plots], **document}, stream)
    return HEADER + stream.getvalue()


def is_this_repository(workspace: Path) -> bool:
    return workspace.resolve() == closure.CODE_ROOT


def _entry(workspace: Path, stage: Stage, settings: Settings, written: dict[str, Any]) -> dict[str, Any]:
    """One stage; ``written`` is params.yaml as it stands: DVC refuses to depend on a section that is not there."""
    places = [_reference(written, place.key, place.path) for place in outside.places(stage, settings)]
    entry: dict[str, Any] = {
        "cmd": f"graftline stage {stage.name}",
        "desc": stage.summary,
        "params": [key for key in (stage.name, *stage.shared) if key in written],
        "deps": [*places, *(CATALOG[name].path for name in stage.inputs_used(settings))],
    }
    named = [
        (package, key, settings.value(key)) for package, key in stage.plugins if key and settings.value(key) is not None
    ]
    if is_this_repository(workspace):
        entry["deps"] += [path.as_posix() for path in closure.modules_of(stage)]
        entry["deps"] += [file for package, key, name in named for file in _plugin_files(written, package, key, name)]
    else:
        digests_of = [
            f"{code_digests.family(package)}.{_reference(written, key, name)}" for package, key, name in named
        ]
        entry["params"].append({CODE_FILE: [stage.name, *dict.fromkeys(digests_of)]})
    for name in stage.outputs:
        _add_output(entry, name)
    return {key: value for key, value in entry.items() if value}


def _plugin_files(written: dict[str, Any], package: str, key: str, name: str) -> list[str]:
    """The chosen plug-in's file, by reference to where it is chosen, and those of the plug-ins that it runs."""
    folder = package.replace(".", "/")
    others = [member for member in closure.with_those_it_runs(package, name) if member != name]
    return [f"{folder}/{_reference(written, key, name)}.py", *(f"{folder}/{member}.py" for member in others)]


def _reference(written: dict[str, Any], key: str, value: str) -> str:
    """``${key}`` where params.yaml spells the value out under that key, for DVC to fill in; else the value itself."""
    found: Any = written
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return f"${{{key}}}" if found == value else value


def _add_output(entry: dict[str, Any], name: str) -> None:
    artefact = CATALOG[name]
    if artefact.kind == "metrics":
        entry.setdefault("metrics", []).append({artefact.path: {"cache": False}})
    else:
        entry.setdefault("outs", []).append(artefact.path)


def _kept(path: Path) -> dict[str, Any]:
    """What the user has added to dvc.yaml: everything in it less our stages and plots.

    Raises:
        WorkspaceError: it is not YAML.
    """
    if not path.is_file():
        return {}
    document = params.read(path) or {}
    ours, plots = {stage.name for stage in STAGES}, [next(iter(plot)) for plot in _plots()]
    stages = {name: entry for name, entry in (document.pop("stages", None) or {}).items() if name not in ours}
    own_plots = [plot for plot in document.pop("plots", None) or [] if str(next(iter(plot), "")) not in plots]
    return {**document, "stages": stages, "plots": own_plots}


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
    fresh = code_digests.of_package(workspace)
    path = workspace / CODE_FILE
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == fresh:
        return False
    files.write_text(path, json.dumps(fresh, indent=2) + "\n")
    return True
