"""Which of our files a stage's result depends on: the import closure of its module, read from the source text.

Imports inside functions count: heavy packages are imported there. A plug-in's own file is in the key only when params
choose it; what any plug-in of that family imports is always in, so that the list does not change with the choice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pipeline
from pipeline.core import digests, plugins
from pipeline.graph.table import Stage

PACKAGE_ROOT = Path(pipeline.__file__).parent
CODE_ROOT = PACKAGE_ROOT.parent


def modules_of(stage: Stage) -> list[Path]:
    """Files in the stage's key whatever the params, relative to the repository, sorted."""
    starts = [PACKAGE_ROOT / "stages" / f"{stage.name}.py"]
    members = {package: set(_files_of(package)) for package, _ in stage.plugins}
    by_choice = set().union(*(members[package] for package, key in stage.plugins if key))
    reached = _reach([*starts, *(file for files in members.values() for file in files)])
    return sorted([*(file.relative_to(CODE_ROOT) for file in reached - by_choice), *map(Path, stage.files)])


def chosen_plugins(stage: Stage, names: Mapping[str, str | None]) -> list[Path]:
    """Files of the plug-ins that params choose; ``names`` maps a key such as ``train.strategy.name`` to its value."""
    chosen = {
        _folder(package) / f"{member}.py"
        for package, key in stage.plugins
        if key
        for member in with_those_it_runs(package, names.get(key))
    }
    return sorted(file.relative_to(CODE_ROOT) for file in chosen)


def with_those_it_runs(package: str, name: str | None) -> tuple[str, ...]:
    """The plug-in called ``name``, or its whole family where it says that it runs the others (``RUNS_OTHERS``)."""
    if name is None:
        return ()
    return plugins.names(package) if getattr(plugins.load(package, name), "RUNS_OTHERS", False) else (name,)


def digest_of(stage: Stage, names: Mapping[str, str | None] | None = None) -> str:
    """One digest over all of the stage's code; with ``names``, over the plug-ins they choose too."""
    files = [*modules_of(stage), *chosen_plugins(stage, names or {})]
    return digests.of_json([(file.as_posix(), digests.of_path(CODE_ROOT / file)) for file in files])


def plugin_digests(package: str) -> dict[str, str]:
    """The digest of each plug-in's own file, by its name; of its whole family for one that runs the others."""
    own = {file.stem: digests.of_file(file) for file in _files_of(package)}
    families = {name: with_those_it_runs(package, name) for name in own}
    return {
        name: own[name] if members == (name,) else digests.of_json([(member, own[member]) for member in members])
        for name, members in families.items()
    }


def _files_of(package: str) -> list[Path]:
    return [_folder(package) / f"{name}.py" for name in plugins.names(package)]


def _folder(package: str) -> Path:
    return CODE_ROOT.joinpath(*package.split("."))


def _reach(starts: list[Path]) -> set[Path]:
    """All files reachable by imports from ``starts``, these included."""
    reached: set[Path] = set()
    waiting = list(starts)
    while waiting:
        file = waiting.pop()
        if file in reached:
            continue
        reached.add(file)
        waiting.extend(_imports(file))
    return reached


@cache
def _imports(file: Path) -> tuple[Path, ...]:
    """Files of ours that ``file`` imports, at module level or inside a function; not those for type checkers alone."""
    found: list[Path] = []
    for node in _that_run(ast.parse(file.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            found += [path for alias in node.names for path in _resolve(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += _resolve(node.module)
            found += [path for alias in node.names for path in _resolve(f"{node.module}.{alias.name}")]
    return tuple(found)


def _that_run(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """These and all below them but those under ``if TYPE_CHECKING:``, which no result can depend on.

    Expressions, nine nodes in ten, hold no import and are passed by.
    """
    for node in statements:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from _that_run(node.orelse)
            continue
        yield node
        inner = [node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())]
        for part in inner:
            for field in ("body", "orelse", "finalbody"):
                yield from _that_run(getattr(part, field, []))


def _resolve(module: str) -> list[Path]:
    """The file of one of our modules; nothing for a foreign one, or for a name inside a module."""
    path = CODE_ROOT.joinpath(*module.split("."))
    is_ours = module.split(".")[0] == PACKAGE_ROOT.name
    return [path.with_suffix(".py")] if is_ours and path.with_suffix(".py").is_file() else []
