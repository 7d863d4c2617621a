"""What `make mutants` reads off the exit codes that mutmut has kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra import mutants

JUDGED = {"killed_by_a_test": 1, "killed_by_an_error": 3, "survived": 0, "of_no_test": 33, "nothing_collected": 5}
ENDLESS = {"slow": 36, "out_of_cpu": -24}
NOT_JUDGED = {"not_tried": None, "interrupted": 2}
UNCLEAR = {"out_of_memory": -9, "aborted": -6, "segfault": -11, "skipped": 34, "suspicious": 35, "unheard_of": 77}
CODES: dict[str, int | None] = {**JUDGED, **ENDLESS, **NOT_JUDGED, **UNCLEAR}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file of mutmut's with a mutant for each code."""
    codes = {f"pipeline.gates.{name}": code for name, code in CODES.items()}
    (tmp_path / "floor.py.meta").write_text(json.dumps({"exit_code_by_key": codes}), encoding="utf-8")
    monkeypatch.setattr(mutants, "FOLDER", tmp_path)


@pytest.mark.usefixtures("kept")
def test_only_a_test_that_fails_kills() -> None:
    """What the system killed was not noticed by a test, and what was interrupted was not judged."""
    ends = {name.rpartition(".")[2]: end for name, end in mutants.results().items()}
    assert [name for name, end in ends.items() if end == "killed"] == ["killed_by_a_test", "killed_by_an_error"]
    assert [name for name, end in ends.items() if end == "untested"] == ["of_no_test", "nothing_collected"]
    assert [name for name, end in ends.items() if end == "timeout"] == list(ENDLESS)
    assert [name for name, end in ends.items() if end is None] == list(NOT_JUDGED)
    assert [name for name, end in ends.items() if end == "unclear"] == list(UNCLEAR)


@pytest.mark.usefixtures("kept")
def test_table_counts_each_end_and_names_what_no_test_killed() -> None:
    """The columns add up to what was tried."""
    header, gates, *rest = mutants.table(mutants.results()).splitlines()
    assert header.split() == ["package", "mutants", "tried", "killed", "survived", "untested", "timeout", "unclear"]
    assert gates.split() == ["gates", "15", "13", "2", "1", "2", "2", "6"]
    named = [line.split() for line in rest if "pipeline." in line]
    assert ["survived", "pipeline.gates.survived"] in named
    assert ["unclear", "pipeline.gates.out_of_memory"] in named
    assert len(named) == 1 + 2 + 6
