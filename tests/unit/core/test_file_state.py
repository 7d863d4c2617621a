"""Whether a file has changed, by what the file system knows of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core import file_state
from pipeline.core.file_state import FileState, settled


def test_the_state_changes_with_the_content(tmp_path: Path) -> None:
    """By size, by time, and where a program sets the time back, by that of the inode's change."""
    path = tmp_path / "a"
    states = []
    for content, at_ns in ((b"1", 10**18), (b"12", 10**18), (b"13", 2 * 10**18), (b"14", 2 * 10**18)):
        path.write_bytes(content)
        os.utime(path, ns=(at_ns, at_ns))
        states.append(FileState.of(path))
    assert 4 == len(set(states))
    assert FileState.of(path) == states[-1]


def test_a_file_that_is_gone_has_no_state(tmp_path: Path) -> None:
    """Whoever asks goes on without."""
    assert (None, None) == (FileState.of(tmp_path / "a"), settled(tmp_path / "a"))


def test_a_file_changed_a_moment_ago_is_not_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one whose time was set back a moment ago; two seconds later they are."""
    path = tmp_path / "a"
    path.write_bytes(b"1")
    os.utime(path, ns=(0, 0))
    state = FileState.of(path)
    assert state is not None
    for later_ns, expected in ((file_state.SETTLED_NS, None), (file_state.SETTLED_NS + 1, state)):
        now_ns = state.ctime_ns + later_ns
        monkeypatch.setattr(file_state.time, "time_ns", lambda now_ns=now_ns: now_ns)
        assert expected == settled(path)
