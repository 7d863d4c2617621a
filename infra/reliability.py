"""``make faults``: try every promise of docs/reliability.md, and write its table from what happened.

    python -m infra.reliability                  # every test that a promise names, the long ones too; then the table
    python -m infra.reliability run tests/faults/test_rollbacks.py -k rehearsal    # some of them: pytest's arguments
    python -m infra.reliability run -m "not slow and not faults"                   # those of the default suite
    python -m infra.reliability render           # the table alone, from docs/reliability.json

``tests/faults/promises.toml`` says what is promised under which fault and names the tests. ``docs/reliability.json``
keeps, for each test and each of its parameters, how often the fault was tried and how often the promise held, with
commit, date and machine; the long runs (markers ``faults`` and ``slow``) apart from those of the default suite. What is
run again replaces its own numbers and no other parameter's. A few entries stand under the name of a function alone
though it has parameters: they were counted before parameters were told apart, and give way when one of these is run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.variants import KINDS, Kind, variants
from pipeline.core.files import write_text

ROOT = Path(__file__).parents[1]
PROMISES = ROOT / "tests/faults/promises.toml"
RESULTS = ROOT / "docs/reliability.json"
PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- promises: begin -->", "<!-- promises: end -->"

CASES = "cases"
"""What a test that counts nothing itself has tried: itself, once for each of its parameters."""

TOTALS = ("kills", "races", "mutants", "canaries", "rows")
"""Counted over all rows; a mutant is held when it neither crashes, hangs nor differs, a canary when nobody finds it."""

ALL = "all"

Results = dict[str, dict[Kind, dict[str, Any]]]
"""By test (``file::name[parameter]``), then by the run it belongs to: ``tries`` {unit: [tried, held]}, ``skipped``
{why: cases}, notes."""


class Promise(NamedTuple):
    """A row of the table."""

    fault: str
    behaviour: str
    tests: list[str]
    """Test functions (``file::name``), or whole files."""
    unit: str = CASES
    """What a parameter of these tests is."""

    def names(self, test: str) -> bool:
        """A function, or one of its parameters."""
        function = function_of(test)
        return any(function == named or function.startswith(f"{named}::") for named in self.tests)

    @property
    def variants(self) -> list[tuple[str, Kind]]:
        """Every function that is named, once for each of the two runs in which it, or a parameter of it, has a part."""
        return [
            (f"{file}::{function}", kind)
            for file in dict.fromkeys(test.split("::")[0] for test in self.tests)
            for function, kinds in variants(ROOT / file).items()
            for kind in KINDS
            if kind in kinds and self.names(f"{file}::{function}")
        ]


def function_of(test: str) -> str:
    """``file::name`` of ``file::name[parameter]``."""
    return test.split("[")[0]


def promises() -> list[Promise]:
    return [Promise(**row) for row in tomllib.loads(PROMISES.read_text(encoding="utf-8"))["promise"]]


# -- trying them -------------------------------------------------------------------------------------------------------


class Recorder:
    """A pytest plugin: what each test tried and held; works beside xdist, as reports travel with what tests counted."""

    def __init__(self) -> None:
        self.results: dict[str, dict[Kind, dict[str, Any]]] = defaultdict(dict)
        self.collected: set[str] = set()
        """Every test that was found, chosen or not; none where the workers of xdist look for them."""
        self._failed: set[str] = set()
        self._skipped: dict[str, str] = {}

    def pytest_itemcollected(self, item: Any) -> None:
        self.collected.add(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or hasattr(report, "wasxfail"):  # a promise that is expected to be broken is none
            self._failed.add(report.nodeid)
        elif report.skipped:
            self._skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
        if report.when == "teardown":
            self._note(report.nodeid, dict(report.user_properties))
        elif report.when == "???":  # its process died, which xdist alone survives; nothing of what it counted is known
            self._note(report.nodeid, {"long": _runs_long_only(report.nodeid)})

    def _note(self, nodeid: str, told: dict[str, Any]) -> None:
        kind: Kind = "faults" if told.get("long") else "default"
        empty: dict[str, Any] = {"tries": {}, "skipped": {}, "notes": []}
        entry = self.results[nodeid].setdefault(kind, empty)
        if nodeid in self._skipped and nodeid not in self._failed:
            why = self._skipped[nodeid]
            entry["skipped"][why] = entry["skipped"].get(why, 0) + 1
            return
        counted = told.get("tried") or {CASES: [1, 1]}
        if nodeid in self._failed:  # whatever had been counted as held, the promise was not
            counted = {unit: [tried, min(held, tried - 1)] for unit, (tried, held) in counted.items()}
        for unit, (tried, held) in counted.items():
            before = entry["tries"].get(unit, [0, 0])
            entry["tries"][unit] = [before[0] + tried, before[1] + held]
        entry["notes"] += told.get("notes", [])


def _runs_long_only(test: str) -> bool:
    file, _, function = function_of(test).partition("::")
    return variants(ROOT / file).get(function) == {"faults"}


def run(arguments: Sequence[str]) -> int:
    """Run tests and keep what they tried; returns pytest's exit code. Interrupted runs change nothing."""
    import pytest

    recorder, stamp = Recorder(), _stamp()
    chosen = (
        list(arguments) if any(word.startswith("tests") for word in arguments) else [*_named(promises()), *arguments]
    )
    which = [] if "-m" in chosen else ["-m", ""]  # the long ones too, unless a choice is given
    code = int(pytest.main([*chosen, *which, "--rootdir", str(ROOT)], plugins=[recorder]))
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return code
    found = set() if any("[" in word for word in chosen) else recorder.collected  # else others were not looked for
    save(_merged(load(), _stamped(recorder.results, stamp), found))
    return code


def _named(rows: Iterable[Promise]) -> list[str]:
    """Every test that a promise names, once, and whatever else tests/faults holds."""
    return list(dict.fromkeys(["tests/faults", *(t for row in rows for t in row.tests if "tests/faults" not in t)]))


def _stamped(results: Results, stamp: dict[str, str]) -> Results:
    """Each entry with where it comes from."""
    return {test: {kind: entry | stamp for kind, entry in kinds.items()} for test, kinds in results.items()}


def _merged(before: Results, fresh: Results, found: set[str]) -> Results:
    """What was run in the place of what was known of the same parameter.

    Of functions that were looked for whole, ``found`` has every parameter; what is known of others of theirs goes.
    """
    merged = before | fresh
    whole = {function_of(test) for test in found}
    for test in before.keys() - fresh.keys():
        parameters = {other for other in found if other != test and function_of(other) == test}
        if parameters or any(function_of(other) == test for other in fresh):
            merged[test] = _not_given_way(
                test, before, fresh, all_known=bool(parameters) and parameters <= merged.keys()
            )
        elif function_of(test) in whole and test not in found:
            del merged[test]
    return {test: kinds for test, kinds in merged.items() if kinds}


def _not_given_way(function: str, before: Results, fresh: Results, *, all_known: bool) -> dict[Kind, dict[str, Any]]:
    """What was counted for all parameters together stays until one is run again; where one had missed, until all are
    known by themselves, as nobody can tell which it was."""
    again = {kind for test, kinds in fresh.items() if function_of(test) == function for kind in kinds}
    return {
        kind: entry
        for kind, entry in before[function].items()
        if not all_known and (kind not in again or any(held < tried for tried, held in entry["tries"].values()))
    }


def _stamp() -> dict[str, str]:
    """The commit as it is when the run begins; what the run itself writes makes it no other."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    commit = _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    return {"commit": commit, "date": time.strftime("%Y-%m-%d"), "machine": _machine()}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def load() -> Results:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def save(results: Results) -> None:
    """Only of functions that a promise still names."""
    rows = promises()
    kept = {name: results[name] for name in sorted(results) if any(row.names(name) for row in rows)}
    lines = [f" {_in_json(name)}: {_in_json(kinds)}" for name, kinds in kept.items()]  # one each: changes can be read
    write_text(RESULTS, "{\n" + ",\n".join(lines) + "\n}\n")


def _in_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- the table ---------------------------------------------------------------------------------------------------------


def render(rows: Sequence[Promise], results: Results) -> str:
    """The sentence of totals and the table, as Markdown."""
    lines = ["| Fault | Promise | Test | Tried | Held |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_row(row, results))} |" for row in rows]
    return "\n".join([*_totals(rows, results), "", *lines])


def _row(row: Promise, results: Results) -> tuple[str, ...]:
    entries = [(kind, entry) for name, kinds in results.items() if row.names(name) for kind, entry in kinds.items()]
    files = ", ".join(f"`{file}`" for file in dict.fromkeys(test.split("::")[0] for test in row.tests))
    kinds = [kind for kind in ("default", "faults") if any(kind == found for found, _ in entries)]
    tries = _summed((entry for _, entry in entries), row.unit)
    skipped = Counter({why: 0 for _, entry in entries for why in entry["skipped"]})
    for _, entry in entries:
        skipped.update(entry["skipped"])
    notes = dict.fromkeys(note for _, entry in entries for note in entry["notes"])  # a fixture's stands at each test
    tried = ", ".join(_counted(count, unit) for unit, (count, _) in tries.items()) or "none yet"
    missing = _not_run(row, results)
    held = _held(tries)
    told = ["all that was tried" if missing and held == ALL else held] * bool(tries)
    told += [f"skipped ({count}): {why}" for why, count in skipped.items()]
    told += [f"not run: {', '.join(missing)}"] * bool(missing)
    where = f"{files}; {' and '.join(kinds)}" if kinds else files
    return row.fault, row.behaviour, where, "; ".join([tried, *notes]), "; ".join(told) or "not run"


def _not_run(row: Promise, results: Results) -> list[str]:
    """Named tests of which nothing is known, not even that they were skipped, for people."""
    ran = {(function_of(name), kind) for name, kinds in results.items() for kind in kinds}
    return [
        f"`{test.split('::')[1]}`{' (faults)' * (kind == 'faults')}"
        for test, kind in row.variants
        if (test, kind) not in ran
    ]


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"


def _summed(entries: Iterable[dict[str, Any]], unit: str) -> dict[str, list[int]]:
    """Over all entries; cases bear the row's own name."""
    tries: dict[str, list[int]] = {}
    for entry in entries:
        for name, (tried, held) in entry["tries"].items():
            total = tries.setdefault(unit if name == CASES else name, [0, 0])
            total[0], total[1] = total[0] + tried, total[1] + held
    return tries


def _held(tries: dict[str, list[int]]) -> str:
    missed = {unit: (tried, held) for unit, (tried, held) in tries.items() if held < tried}
    return ", ".join(f"**{held:,} of {tried:,} {unit}**" for unit, (tried, held) in missed.items()) or ALL


def _totals(rows: Sequence[Promise], results: Results) -> list[str]:
    """When and where, and what was counted over all rows; a test that two rows name counts once."""
    entries = [
        entry for name, kinds in results.items() if any(row.names(name) for row in rows) for entry in kinds.values()
    ]
    if not entries:
        return ["Nothing has been tried yet."]
    tries = _summed(entries, CASES)
    counted = [
        f"{_counted(tries[unit][0], unit)}, of which {_held({unit: tries[unit]})} held"
        for unit in TOTALS
        if unit in tries
    ]
    others = [sum(pair[place] for unit, pair in tries.items() if unit not in TOTALS) for place in (0, 1)]
    dates, commits, machines = (sorted({entry[key] for entry in entries}) for key in ("date", "commit", "machine"))
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    counted.append(f"{_counted(others[0], 'others')}, of which {others[1]:,} held")
    return [
        f"Tried in all: {'; '.join(counted)}. Runs of {when}, at {', '.join(commits)}, on {'; '.join(machines)}; "
        "each test's own numbers are in [reliability.json](reliability.json)."
    ]


def page_with(table: str, page: str) -> str:
    """The page with its table replaced; the prose stays."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.reliability", description="Try the promises; write the table."
    )
    parser.add_argument("what", nargs="?", choices=("run", "render"), default="run")
    chosen, rest = parser.parse_known_args()
    code = run(rest) if chosen.what == "run" else 0
    write_text(PAGE, page_with(render(promises(), load()), PAGE.read_text(encoding="utf-8")))
    return code


if __name__ == "__main__":
    sys.exit(main())
