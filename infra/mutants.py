"""``make mutants``: which changes to the decisive code do its tests let pass? ([tool.mutmut] in pyproject.toml)

    python -m infra.mutants                         # all of them, then the table
    python -m infra.mutants run 'pipeline.gates.*'  # some of them
    python -m infra.mutants table                   # what is known so far; names the mutants that were let pass
    python -m infra.mutants show NAME               # one of them as a diff; further commands are mutmut's own

mutmut leaves functions with decorators out, and here the most decisive ones have one (``contextlib.contextmanager``,
``asking_mlflow``). Those are let in: the decorator stays on the function that chooses, and is taken off what it chooses
from, the mutants and mutmut's copy of the original (``…_orig``); so it is put on once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LET_IN = {"contextmanager", "asking_mlflow", "property"}
"""Decorators that do around the chooser what they did around the function. ``cache`` would answer from before."""

PACKAGES = ("gates", "core", "tracking")

FOLDER = Path("mutants/pipeline")
ENDS: dict[int | None, str | None] = {
    None: None,
    2: None,  # the run was interrupted
    0: "survived",
    1: "killed",
    3: "killed",  # an error inside pytest itself
    5: "untested",  # no test was collected
    33: "untested",  # no test runs the function
    36: "timeout",
    255: "timeout",
    **dict.fromkeys((24, -24, 152), "timeout"),  # SIGXCPU
}
"""What the exit code of its tests says of a mutant, as in mutmut's ``stats.py``; None: it was not judged.

With any other code, such as that of a process which the system killed for its memory, the end is ``unclear``.
"""


def main() -> int:
    arguments = sys.argv[1:]
    if arguments == ["table"]:
        print(table(results()))
        return 0
    if not arguments:
        return everything()
    _let_decorated_functions_in()
    from mutmut.__main__ import cli

    cli(arguments)
    return 0


def everything() -> int:
    """In a process of its own: mutmut keeps state."""
    run = [sys.executable, "-m", "infra.mutants", "run"]
    subprocess.run([*run, *(f"pipeline.{package}.*" for package in PACKAGES)], check=True)
    print(table(results()))
    return 0


def results() -> dict[str, str | None]:
    """How each mutant ended; None: not tried, or interrupted."""
    codes: dict[str, int | None] = {}
    for path in sorted(FOLDER.rglob("*.meta")):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {name: ENDS.get(code, "unclear") for name, code in codes.items()}


def table(ends: dict[str, str | None]) -> str:
    """One line per package; below it every mutant that was let pass, or whose end is unclear."""
    kinds = ("killed", "survived", "untested", "timeout", "unclear")
    lines = [f"{'package':10}{'mutants':>9}{'tried':>9}" + "".join(f"{kind:>10}" for kind in kinds)]
    for package in PACKAGES:
        found = [end for name, end in ends.items() if name.startswith(f"pipeline.{package}.")]
        count = Counter(found)
        tried = len(found) - count[None]
        lines.append(f"{package:10}{len(found):9,}{tried:9,}" + "".join(f"{count[kind]:10,}" for kind in kinds))
    passed = [f"{end:10}{name}" for name, end in sorted(ends.items()) if end in ("survived", "untested", "unclear")]
    return "\n".join([*lines, "", *passed])


def _let_decorated_functions_in() -> None:
    """Replace the two places of mutmut that stand against it."""
    import libcst as cst
    from mutmut.mutation import file_mutation

    skip = file_mutation.MutationVisitor._skip_node_and_children
    arrange = file_mutation.function_trampoline_arrangement

    def skip_fewer(self: Any, node: cst.CSTNode) -> bool:
        return not (isinstance(node, cst.FunctionDef) and _is_let_in(node)) and skip(self, node)

    def arrange_bare(function: cst.FunctionDef, mutants: Iterable[Any], class_name: str | None) -> Any:
        before, functions, after, names = arrange(function, mutants, class_name)
        if _is_let_in(function):
            functions = [functions[0], *(one.with_changes(decorators=[]) for one in functions[1:])]
        return before, functions, after, names

    file_mutation.MutationVisitor._skip_node_and_children = skip_fewer
    file_mutation.function_trampoline_arrangement = arrange_bare


def _is_let_in(function: Any) -> bool:
    return bool(function.decorators) and all(_last_name(one.decorator) in LET_IN for one in function.decorators)


def _last_name(decorator: Any) -> str:
    """``contextmanager`` of ``@contextlib.contextmanager``, ``asking_mlflow`` of ``@asking_mlflow("…")``."""
    import libcst as cst

    if isinstance(decorator, cst.Call):
        return _last_name(decorator.func)
    return str(decorator.attr.value if isinstance(decorator, cst.Attribute) else decorator.value)


if __name__ == "__main__":
    raise SystemExit(main())
