"""What a sqlite registry told is known until somebody writes to it."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline.core import file_state
from pipeline.tracking import last_seen, runs
from pipeline.tracking.last_seen import LastSeen
from pipeline.tracking.registry import CHAMPION, Registry, Version
from pipeline.tracking.session import Session

ToyModel = Callable[[float], Path]


class Asked(Registry):
    """A registry that counts how often it is asked."""

    times = 0

    def versions(self) -> list[Version]:
        self.times += 1
        return super().versions()


@pytest.fixture
def registry(session: Session, toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """One version, the champion; the database counts as settled at once."""
    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))
    registry = Asked(session, "digits")
    version = registry.register(toy_model(1.0), runs.start(session, "digits"), {"verdict": "passed", "held": "no"})
    registry.crown(version.number, None, expected_champion=None)
    registry.times = 0
    return registry


def seen(registry: Asked, *, model: str = "digits", uri: str | None = None) -> list[Version]:
    workspace = registry.session.workspace
    return LastSeen(workspace, uri or registry.session.uri, model).versions(registry.versions)


def test_a_registry_is_asked_once(registry: Asked) -> None:
    """And what is known is what it told: numbers, digests, aliases, runs, times and tags."""
    first, again = seen(registry), seen(registry)
    assert (first, 1) == (again, registry.times)
    assert registry.versions() == again
    assert [(1, (CHAMPION,), "no")] == [(version.number, version.aliases, version.tags["held"]) for version in again]


def test_whatever_is_written_is_seen(registry: Asked, toy_model: ToyModel) -> None:
    """A tag, an alias, a version, by this process or another."""
    writes: list[Callable[[], object]] = [
        lambda: registry.tag(1, {"verdict": "failed"}),
        lambda: registry.unalias(CHAMPION, 1),
        lambda: registry.register(toy_model(2.0), registry.versions()[0].run_id, {}),
        lambda: registry.crown(2, 1, expected_champion=None),
    ]
    for write in writes:
        before = seen(registry)
        write()
        assert before != seen(registry) == registry.versions()


def test_a_registry_that_was_written_to_a_moment_ago_is_asked(registry: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock may not have ticked since."""
    monkeypatch.setattr(file_state, "SETTLED_NS", 10**12)
    seen(registry)
    seen(registry)
    assert 2 == registry.times


def test_locks_that_this_process_holds_on_it_stay(registry: Asked) -> None:
    """A transaction of another thread would lose them with the first descriptor of the file that is closed."""
    database = registry.session.uri.removeprefix(last_seen.SQLITE)
    seen(registry)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        seen(registry)
        write = f"import sqlite3; sqlite3.connect({database!r}, timeout=0).execute('CREATE TABLE ours (x)')"
        other = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True)
    assert "database is locked" in other.stderr
    assert 1 == registry.times


def test_another_version_of_graftline_asks(registry: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may read other things in the registry."""
    seen(registry)
    monkeypatch.setattr(pipeline, "__version__", "0.0.0")
    seen(registry)
    assert 2 == registry.times


def test_what_is_written_while_it_is_asked_is_seen(registry: Asked) -> None:
    """An answer is known as that of the database before the question."""

    def ask() -> list[Version]:
        told = registry.versions()
        registry.tag(1, {"verdict": "failed"})
        return told

    LastSeen(registry.session.workspace, registry.session.uri, "digits").versions(ask)
    assert "failed" == seen(registry)[0].tags["verdict"]


def test_another_model_or_another_store_is_asked(registry: Asked, tmp_path: Path) -> None:
    """What one told is not taken for what another would."""
    seen(registry)
    database = Path(registry.session.uri.removeprefix(last_seen.SQLITE))
    (tmp_path / "other.db").hardlink_to(database)
    seen(registry, model="letters")
    seen(registry, uri=f"{last_seen.SQLITE}{tmp_path / 'other.db'}")
    assert 3 == registry.times


def test_a_server_is_always_asked(registry: Asked) -> None:
    """So is a database of which there is no file."""
    for uri in ("http://127.0.0.1:5000", "sqlite:////nowhere/mlflow.db"):
        seen(registry, uri=uri)
        seen(registry, uri=uri)
    assert 4 == registry.times


@pytest.mark.parametrize("beside", ["-journal", "-wal"])
def test_a_database_that_is_written_to_is_asked(registry: Asked, beside: str) -> None:
    """What lies beside it counts too: a transaction that runs or that a kill has left, or a log."""
    seen(registry)
    database = Path(registry.session.uri.removeprefix(last_seen.SQLITE))
    database.with_name(database.name + beside).touch()
    seen(registry)
    assert 2 == registry.times


@pytest.mark.parametrize(
    "damage", [lambda kept: kept[:-1], lambda kept: b"", lambda kept: kept.replace(b"digits", b"d")]
)
def test_what_was_kept_and_damaged_is_not_believed(registry: Asked, damage: Callable[[bytes], bytes]) -> None:
    """The registry is asked again."""
    told = seen(registry)
    kept = registry.session.workspace / last_seen.FILE
    kept.write_bytes(damage(kept.read_bytes()))
    assert (told, 2) == (seen(registry), registry.times)


def test_what_another_version_of_graftline_kept_is_not_believed(
    registry: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have known less of a version."""
    seen(registry)
    monkeypatch.setattr(last_seen.checked, "read", lambda path: b'{"uri": "", "versions": [{"number": 1}]}')
    seen(registry)
    assert 2 == registry.times


def test_a_folder_that_cannot_be_written_costs_time_alone(registry: Asked) -> None:
    """The registry is asked each time."""
    (registry.session.workspace / ".graftline/cache").write_text("in the way")
    assert seen(registry) == seen(registry)
    assert 2 == registry.times
