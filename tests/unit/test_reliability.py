"""docs/reliability.md says what the results say, these are what the tests counted, and every named test exists."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest

from infra import reliability
from infra.reliability import Promise

ROOT = reliability.ROOT
STAMP = {"commit": "abc", "date": "2026-01-02", "machine": "a machine"}
ROWS = [Promise("a fault", "it holds", ["tests/faults/test_x.py::test_one"], unit="files"), Promise("b", "c", ["t.py"])]


def entry(tries: dict[str, list[int]], **more: object) -> dict[str, object]:
    return {"tries": tries, "skipped": {}, "notes": []} | STAMP | more


def cells(results: dict, row: int = 0) -> list[str]:
    """A row of the table: fault, promise, test, tried, held."""
    table = reliability.render(ROWS, results)
    return [cell.strip() for cell in table.splitlines()[4 + row].strip("|").split("|")]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_is_in_step():
    """What stands between the marks is what the results make; `python -m infra.reliability render` mends it."""
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert page == reliability.page_with(reliability.render(reliability.promises(), reliability.load()), page)


def test_every_named_test_exists():
    """A promise whose test was renamed or removed is a promise that nobody holds."""
    for row in reliability.promises():
        for named in row.tests:
            file, _, function = named.partition("::")
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"]
            assert function in there if function else there, named


def test_every_test_of_a_fault_stands_behind_a_promise():
    """Whatever tests/faults holds is named in the table, whole file or function by function."""
    rows = reliability.promises()
    for file in sorted((ROOT / "tests/faults").glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                function = f"{file.relative_to(ROOT).as_posix()}::{node.name}"
                assert any(row.names(function) for row in rows), function


def test_results_are_those_of_named_tests():
    """Numbers of a test that no promise names any more do not stay."""
    rows = reliability.promises()
    assert [] == [name for name in reliability.load() if not any(row.names(name) for row in rows)]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_row_adds_up_both_runs():
    """The default run's tries and the longer one's, each with its unit; cases bear the row's own."""
    results = {
        "tests/faults/test_x.py::test_one": {
            "default": entry({"cases": [3, 3], "kills": [2, 2]}),
            "faults": entry({"cases": [1000, 1000]}, notes=["12 of them by night"]),
        }
    }
    assert [
        "a fault",
        "it holds",
        "`tests/faults/test_x.py`; default and faults",
        "1,003 files, 2 kills; 12 of them by night",
        "all",
    ] == cells(results)


def test_a_note_that_several_bear_is_told_once():
    """What a fixture counts for all tests of a file stands at each of them."""
    noted = {"default": entry({"cases": [1, 1]}, notes=["12 of them by night"])}
    results = {f"tests/faults/test_x.py::test_one[{case}]": noted for case in "ab"}
    assert "2 files; 12 of them by night" == cells(results)[3]


def test_what_was_not_held_is_told_in_numbers():
    """Never `all`, where one was missed."""
    results = {"tests/faults/test_x.py::test_one": {"default": entry({"cases": [3, 2], "kills": [2, 2]})}}
    assert "**2 of 3 files**" == cells(results)[4]
    assert "2 kills, of which all held; 3 others, of which 2 held" in reliability.render(ROWS, results)


def test_what_was_skipped_is_not_held():
    """It says why; beside what was tried, or alone."""
    skipped = entry({}, skipped={"no chromium on this machine": 2})
    assert ["none yet", "skipped (2): no chromium on this machine"] == cells({"t.py::test_y": {"default": skipped}}, 1)[
        3:
    ]
    both = {"t.py::test_y": {"default": skipped}, "t.py::test_z": {"faults": entry({"cases": [1, 1]})}}
    assert ["1 case", "all; skipped (2): no chromium on this machine"] == cells(both, 1)[3:]


def test_what_was_never_run_says_so():
    """A promise without a result is not one that held."""
    assert ["`t.py`", "none yet", "not run"] == cells({}, 1)[2:]
    assert "Nothing has been tried yet." in reliability.render(ROWS, {})


NAMED = """
import pytest

MANY = [pytest.param(9, marks=pytest.mark.faults)]

def sizes(few):
    return pytest.mark.parametrize("size", [few, *MANY])

@sizes(1)
def test_both(size): ...

@pytest.mark.faults
@pytest.mark.parametrize("size", [1, 2])
def test_long(size): ...

@pytest.mark.parametrize("size", [1, 2])
def test_short(size): ...
"""


@pytest.fixture
def named(tmp_path, monkeypatch) -> Promise:
    """A row behind which three tests stand, one of them with a longer variant."""
    (tmp_path / "test_named.py").write_text(NAMED)
    monkeypatch.setattr(reliability, "ROOT", tmp_path)
    return Promise("a fault", "it holds", ["test_named.py"])


def held_of(row: Promise, results: dict) -> str:
    return reliability.render([row], results).splitlines()[-1].strip("|").split("|")[-1].strip()


def test_a_named_test_that_never_ran_is_told(named):
    """Also the longer variant of one whose short variant has run: `all` is never said of what was not tried."""
    held = entry({"cases": [1, 1]})
    short = {"test_named.py::test_both[1]": {"default": held}, "test_named.py::test_short": {"default": held}}
    assert "all that was tried; not run: `test_both` (faults), `test_long` (faults)" == held_of(named, short)
    whole = short | {
        "test_named.py::test_both[9]": {"faults": held},
        "test_named.py::test_long": {"faults": entry({}, skipped={"no right": 1})},
    }
    assert "all; skipped (1): no right" == held_of(named, whole)
    missed = short | {"test_named.py::test_both[1]": {"default": entry({"cases": [1, 0]})}}
    assert "**1 of 2 cases**; not run: `test_both` (faults), `test_long` (faults)" == held_of(named, missed)
    assert "not run: `test_both`, `test_both` (faults), `test_long` (faults), `test_short`" == held_of(named, {})


def test_the_runs_of_a_test_are_read_as_pytest_knows_them(tmp_path):
    """What is read from the text of tests/faults is what pytest collects, marker by marker."""
    script = (
        "import json, sys, pytest\n"
        "class Told:\n"
        "    def pytest_collection_finish(self, session):\n"
        "        print('KINDS' + json.dumps([(item.nodeid, any(map(item.get_closest_marker, ('faults', 'slow'))))\n"
        "                                    for item in session.items]))\n"
        "pytest.main(['tests/faults', '-m', '', '--collect-only', '-qq', '-p', 'no:cacheprovider'], plugins=[Told()])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    told = json.loads(done.stdout.split("KINDS")[1].splitlines()[0])
    collected = {(nodeid.split("[")[0], "faults" if is_long else "default") for nodeid, is_long in told}
    files = sorted((ROOT / "tests/faults").glob("test_*.py"))
    read = Promise("", "", [file.relative_to(ROOT).as_posix() for file in files])
    assert collected == set(read.variants)


def test_a_test_behind_two_rows_counts_once_in_the_totals():
    """The sentence above the table is a sum over tests, not over rows."""
    rows = [*ROWS, ROWS[1]]
    results = {"t.py::test_y": {"default": entry({"races": [7, 7], "cases": [1, 1]})}}
    assert "Tried in all: 7 races, of which all held; 1 other, of which 1 held." in reliability.render(rows, results)


# -- the recorder ------------------------------------------------------------------------------------------------------

TESTS = """
import os, signal
import pytest
from tally import Tally

@pytest.mark.parametrize("number", range(3))
def test_cases(number):
    assert number

def test_counts(tally):
    for number in range(4):
        with tally("kills"):
            assert number < 2

def test_counts_and_fails_afterwards(tally):
    with tally("races", 5):
        pass
    tally.note("by night")
    assert False

@pytest.mark.faults
def test_long(tally):
    with tally("mutants", 100):
        pass

@pytest.mark.parametrize("number", range(2))
def test_skipped(number):
    pytest.skip("no right to mount")

@pytest.fixture
def broken():
    raise RuntimeError

def test_broken(broken):
    pass

@pytest.mark.xfail(reason="known")
@pytest.mark.parametrize("number", range(2))
def test_expected_to_fail(number):
    assert number

def test_that_gives_up(tally):
    with tally("kills"):
        pytest.xfail("known")

@pytest.fixture
def skipping_afterwards():
    yield
    pytest.skip("nothing to put away")

def test_that_fails_and_skips(skipping_afterwards):
    assert False

def test_that_dies(tally):
    if DIES:
        with tally("kills", 3):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module", params=["0", "2"], ids=["one process", "two workers"])
def recorded(request, tmp_path_factory) -> dict:
    """What the recorder makes of these tests, run for real."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_it.py").write_text(f"DIES = {request.param != '0'}\n{TESTS}")
    hook = "from tally import pytest_collection_modifyitems\n"
    (folder / "conftest.py").write_text((ROOT / "tests/faults/conftest.py").read_text() + hook)
    (folder / "tally.py").write_text((ROOT / "tests/tally.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers =\n  faults\n  slow\n")
    script = (
        "import json, sys, pytest\n"
        "from infra.reliability import Recorder\n"
        "recorder = Recorder()\n"
        f"pytest.main(['-q', '-n', '{request.param}', '-p', 'no:cacheprovider', {str(folder)!r}], plugins=[recorder])\n"
        "print('RESULT' + json.dumps(recorder.results))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, env=environment)
    results = json.loads(done.stdout.split("RESULT")[1])
    return {name.split("::")[1]: kinds for name, kinds in results.items()} | {"workers": int(request.param)}


def test_each_parameter_is_a_case(recorded):
    """Three tried, the one that failed not held."""
    tries = [recorded[f"test_cases[{number}]"]["default"]["tries"] for number in range(3)]
    assert [{"cases": [1, 0]}, {"cases": [1, 1]}, {"cases": [1, 1]}] == tries
    assert "test_cases" not in recorded


def test_what_a_test_counts_is_kept_up_to_its_failure(recorded):
    """The third of four kills was tried and not held, the fourth never tried."""
    assert {"kills": [3, 2]} == recorded["test_counts"]["default"]["tries"]


def test_a_test_that_fails_after_all_its_tries_has_not_held(recorded):
    """Whatever it had counted, one is taken back; its notes stay."""
    assert {"races": [5, 4]} == recorded["test_counts_and_fails_afterwards"]["default"]["tries"]
    assert ["by night"] == recorded["test_counts_and_fails_afterwards"]["default"]["notes"]


def test_the_longer_run_is_kept_apart(recorded):
    """By the marker `faults` or `slow`."""
    assert {"faults": {"tries": {"mutants": [100, 100]}, "skipped": {}, "notes": []}} == recorded["test_long"]


def test_a_skipped_test_has_tried_nothing(recorded):
    """It is counted by its reason."""
    for number in range(2):
        skipped = {"tries": {}, "skipped": {"no right to mount": 1}, "notes": []}
        assert skipped == recorded[f"test_skipped[{number}]"]["default"]


def test_a_test_whose_fixture_fails_has_not_held(recorded):
    """An error is no skip."""
    assert {"cases": [1, 0]} == recorded["test_broken"]["default"]["tries"]


def test_a_test_that_is_expected_to_fail_has_not_held(recorded):
    """Whether it fails or passes: the mark says that nobody relies on it."""
    for number in range(2):
        assert {"cases": [1, 0]} == recorded[f"test_expected_to_fail[{number}]"]["default"]["tries"]
    assert {"kills": [1, 0]} == recorded["test_that_gives_up"]["default"]["tries"]


def test_a_failed_test_that_skips_afterwards_has_failed(recorded):
    """Its fixture's skip does not hide it."""
    assert {"cases": [1, 0]} == recorded["test_that_fails_and_skips"]["default"]["tries"]


def test_a_test_whose_process_dies_has_not_held(recorded):
    """Beside xdist the others go on; what it had counted died with it, so it is one case that was missed."""
    if recorded["workers"]:
        assert {"cases": [1, 0]} == recorded["test_that_dies"]["default"]["tries"]
    else:
        assert {"cases": [1, 1]} == recorded["test_that_dies"]["default"]["tries"]


def test_a_longer_test_whose_process_dies_is_missed_in_the_longer_run(named):
    """Nothing but its name has come through."""
    recorder = reliability.Recorder()
    for test in ("test_named.py::test_long[1]", "test_named.py::test_short[1]"):
        recorder.pytest_runtest_logreport(pytest.TestReport(test, ("", 0, ""), {}, "failed", "worker crashed", "???"))
    missed = {"tries": {"cases": [1, 0]}, "skipped": {}, "notes": []}
    expected = {"test_named.py::test_long[1]": {"faults": missed}, "test_named.py::test_short[1]": {"default": missed}}
    assert expected == recorder.results


HELD, MISSED = entry({"cases": [1, 1]}), entry({"cases": [1, 0]})


def test_another_run_replaces_its_own_numbers_alone():
    """One parameter run again leaves the failure of another, and every other test, as they were."""
    before = {"f::a[1]": {"default": MISSED}, "f::a[2]": {"default": MISSED}, "f::b": {"faults": MISSED}}
    merged = reliability._merged(before, {"f::a[1]": {"default": HELD}}, {"f::a[1]", "f::a[2]"})
    assert before | {"f::a[1]": {"default": HELD}} == merged


def test_a_parameter_that_is_no_more_is_forgotten():
    """Where its function was looked through; one that was merely not chosen, or not looked for, stays."""
    before = {"f::a[1]": {"default": HELD}, "f::a[old]": {"default": MISSED}, "f::b[old]": {"default": MISSED}}
    fresh = {"f::a[1]": {"default": HELD}}
    assert before == reliability._merged(before, fresh, set())
    assert {"f::a[1]", "f::b[old]"} == reliability._merged(before, fresh, {"f::a[1]", "f::a[2]"}).keys()


@pytest.mark.parametrize("kind", ["default", "faults"])
def test_what_was_counted_for_all_parameters_together_gives_way(kind):
    """To the first that is run again, of its own kind of run; where one had missed, only when all are known."""
    all_held, one_missed = entry({"kills": [9, 9]}), entry({"kills": [9, 8]})
    other = "faults" if kind == "default" else "default"
    fresh, found = {"f::a[1]": {kind: HELD}}, {"f::a[1]", "f::a[2]"}
    merged = reliability._merged({"f::a": {kind: all_held, other: all_held}}, fresh, found)
    assert fresh | {"f::a": {other: all_held}} == merged
    assert fresh == reliability._merged({"f::a": {kind: all_held}}, fresh, set())
    merged = reliability._merged({"f::a": {kind: one_missed}}, fresh, found)
    assert fresh | {"f::a": {kind: one_missed}} == merged
    both = reliability._merged(merged, {"f::a[2]": {kind: HELD}}, found)
    assert {"f::a[1]": {kind: HELD}, "f::a[2]": {kind: HELD}} == both
    assert {"f::a": {kind: all_held}} == reliability._merged({"f::a": {kind: all_held}}, {}, found)


def test_what_is_written_is_what_is_read(monkeypatch, tmp_path):
    """One line for each test, in the order of their names; only of those that a promise names."""
    monkeypatch.setattr(reliability, "RESULTS", tmp_path / "results.json")
    kept = {f"tests/faults/test_kill.py::test_x[é{number}]": {"default": HELD} for number in range(3)}
    reliability.save({"tests/nobody.py::test_x": {"default": HELD}} | kept)
    assert kept == reliability.load()
    assert 5 == len((tmp_path / "results.json").read_text().splitlines())


def test_a_run_that_was_interrupted_changes_nothing(monkeypatch, tmp_path):
    """Nor one that pytest did not understand."""
    kept = tmp_path / "reliability.json"
    monkeypatch.setattr(reliability, "RESULTS", kept)
    assert 4 == reliability.run(["tests/there_is_none.py", "-q", "-p", "no:cacheprovider"])
    assert not kept.exists()
