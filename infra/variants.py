"""Which tests a file defines, and to which run each belongs, read from its text: nothing is imported.

A test whose decorators, or whose module's ``pytestmark``, bear the marker ``faults`` or ``slow`` belongs to the longer
run. Where only some parameters bear it, the test has a variant in each run. Names that lead to such a mark through the
module's own assignments and functions are followed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["default", "faults"]
KINDS: tuple[Kind, ...] = ("default", "faults")

LONG = {"faults", "slow"}


@cache
def variants(file: Path) -> dict[str, frozenset[Kind]]:
    """The test functions of a file, and in which of the two runs each has a variant; none where there is no file."""
    if not file.is_file():
        return {}
    module = ast.parse(file.read_text(encoding="utf-8"))
    bound = _bound(module)
    every = "pytestmark" in bound and _is_long(bound["pytestmark"], bound)
    return {
        node.name: frozenset({"faults"}) if every else _kinds(node, bound)
        for node in module.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _bound(module: ast.Module) -> dict[str, ast.AST]:
    """What the module's own names stand for."""
    bound: dict[str, ast.AST] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            bound[node.name] = node
        elif isinstance(node, ast.Assign):
            bound |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            bound[node.target.id] = node.value
    return bound


def _kinds(test: ast.FunctionDef, bound: dict[str, ast.AST]) -> frozenset[Kind]:
    long = [node for node in test.decorator_list if _is_long(node, bound)]
    if any("parametrize" not in _attributes(node, bound) for node in long):
        return frozenset({"faults"})
    return frozenset({"default", "faults"}) if long else frozenset({"default"})


def _is_long(node: ast.AST, bound: dict[str, ast.AST]) -> bool:
    return bool(LONG & _attributes(node, bound))


def _attributes(node: ast.AST, bound: dict[str, ast.AST]) -> set[str]:
    """Last parts of every dotted name in ``node`` and in what its names stand for."""
    return {part.attr for part in _reached(node, bound, set()) if isinstance(part, ast.Attribute)}


def _reached(node: ast.AST, bound: dict[str, ast.AST], seen: set[str]) -> Iterator[ast.AST]:
    for part in ast.walk(node):
        yield part
        if isinstance(part, ast.Name) and part.id in bound and part.id not in seen:
            seen.add(part.id)
            yield from _reached(bound[part.id], bound, seen)
