"""The append-only record of decisions."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.release.history import FILE, Action, Entry, History


def decide(workspace: Path, action: Action, version: int, **others: Any) -> Entry:
    fields = {"model": "digits", "previous": None, "reason": "because", "model_sha256": f"sha{version}", **others}
    return History(workspace).append(action=action, version=version, **fields)


def test_entries_are_numbered_in_order(tmp_path: Path) -> None:
    """Each entry gets the next number and is there for the next reader."""
    for version in (1, 2, 3):
        decide(tmp_path, "promoted", version)
    assert [(1, 1), (2, 2), (3, 3)] == [(entry.sequence, entry.version) for entry in History(tmp_path).entries]


def test_order_is_the_sequence_not_the_clock(tmp_path: Path) -> None:
    """Lines that were merged out of order are read in the order in which they were decided."""
    for version in (1, 2):
        decide(tmp_path, "promoted", version)
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines()
    (tmp_path / FILE).write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    assert [1, 2] == [entry.version for entry in History(tmp_path).entries]


def test_torn_last_line_is_skipped_and_reported(tmp_path: Path) -> None:
    """A crash in the middle of a line loses that line only, and people are told."""
    decide(tmp_path, "promoted", 1)
    with (tmp_path / FILE).open("ab") as file:
        file.write('{"sequence": 2, "reason": "é'.encode()[:-1])
    history = History(tmp_path)
    assert ([1], [2]) == ([entry.version for entry in history.entries], history.unreadable)
    assert f"line 2 of {FILE} was cut short and is skipped" in history.lines()[-1]


def test_entry_after_a_torn_line_is_whole(tmp_path: Path) -> None:
    """The next entry starts on a line of its own, and nothing that was written is taken away."""
    decide(tmp_path, "promoted", 1)
    before = (tmp_path / FILE).read_bytes() + b'{"sequ'
    (tmp_path / FILE).write_bytes(before)
    decide(tmp_path, "held", 2)
    assert [1, 2] == [entry.version for entry in History(tmp_path).entries]
    assert (tmp_path / FILE).read_bytes().startswith(before)


def test_writers_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    """Twenty writers make twenty whole lines numbered 1 to 20."""
    writers = [threading.Thread(target=decide, args=(tmp_path, "held", version)) for version in range(1, 21)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    history = History(tmp_path)
    assert (list(range(1, 21)), []) == ([entry.sequence for entry in history.entries], history.unreadable)


@pytest.mark.parametrize(
    ("decisions", "champions"),
    [
        ([], []),
        ([("held", 1)], []),
        ([("promoted", 1), ("promoted", 2), ("held", 3)], [1, 2]),
        ([("promoted", 1), ("promoted", 1)], [1]),
        ([("promoted", 1), ("promoted", 2), ("rolled_back", 1)], [1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled_back", 2), ("rolled_back", 1)], [1]),
        ([("promoted", 1), ("promoted", 2), ("rolled_back", 1), ("promoted", 3)], [1, 3]),
    ],
)
def test_chain_of_champions(tmp_path: Path, decisions: list[tuple[Action, int]], champions: list[int]) -> None:
    """A promotion lengthens the chain, a rollback shortens it, a hold leaves it."""
    for action, version in decisions:
        decide(tmp_path, action, version)
    assert champions == History(tmp_path).champions("digits")


def test_decided_needs_model_and_verdict_to_agree(tmp_path: Path) -> None:
    """Only the same file with the same verdict was decided before."""
    decide(tmp_path, "held", 1, model_sha256="a", verdict_digest="v")
    history = History(tmp_path)
    assert 1 == history.decided("digits", "a", "v").version  # type: ignore[union-attr]
    others = [("digits", "a", "w"), ("digits", "b", "v"), ("birds", "a", "v")]
    assert [None] * 3 == [history.decided(*other) for other in others]


def test_replaced_by_is_the_next_other_champion(tmp_path: Path) -> None:
    """Holds, other models and the same version again are passed over."""
    first = decide(tmp_path, "promoted", 1)
    decide(tmp_path, "held", 2)
    decide(tmp_path, "promoted", 5, model="birds")
    decide(tmp_path, "promoted", 1)
    assert None is History(tmp_path).replaced_by(first)
    second = decide(tmp_path, "promoted", 2)
    decide(tmp_path, "rolled_back", 1)
    assert second == History(tmp_path).replaced_by(first)


def test_lines_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says when, what, against whom, why and who."""
    monkeypatch.setenv("GRAFTLINE_ACTOR", "nightly")
    decide(tmp_path, "promoted", 2, previous=1, reason="all 9 gates passed")
    assert History(tmp_path).lines()[0].endswith("promoted digits v2 (before: v1) · all 9 gates passed · nightly")


def test_champion_in_a_line(tmp_path: Path) -> None:
    """The last decision that was no hold says who is champion; before the first there is none."""
    assert None is History(tmp_path).last_champion()
    decide(tmp_path, "promoted", 1, reason="all 9 gates passed")
    decide(tmp_path, "held", 2)
    line = History(tmp_path).last_champion().champion_line
    assert line.startswith("digits v1 since 20")
    assert line.endswith(" · all 9 gates passed")
    assert line == History(tmp_path).last_champion("digits").champion_line
    assert None is History(tmp_path).last_champion("renamed")
