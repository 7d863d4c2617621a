"""What a sqlite registry told is known until somebody writes to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.file_state import FileState
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
def registry(session: Session, toy_model: ToyModel) -> Asked:
    """One version, the champion."""
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


@pytest.mark.parametrize("ticks", [True, False], ids=["a clock that ticks", "a clock that stands still"])
def test_whatever_is_written_is_seen(
    registry: Asked, toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch, ticks: bool
) -> None:
    """A tag, an alias, a version, by this process or another; also where the file's size and times do not tell."""
    if not ticks:
        monkeypatch.setattr(last_seen.FileState, "of", lambda path: FileState(1, 2, 3, 4))
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
    """So is a database of which there is no file, or no sqlite file."""
    workspace = registry.session.workspace
    (workspace / "text.db").write_text("SQLite is a library in the C language that implements a database engine.")
    for uri in ("http://127.0.0.1:5000", "sqlite:////nowhere/mlflow.db", f"sqlite:///{workspace / 'text.db'}"):
        seen(registry, uri=uri)
        seen(registry, uri=uri)
    assert 6 == registry.times


@pytest.mark.parametrize("beside", ["-journal", "-wal"])
def test_a_database_that_is_written_to_is_asked(registry: Asked, beside: str) -> None:
    """What lies beside it counts too: a transaction that runs, or one that a kill has left."""
    seen(registry)
    database = Path(registry.session.uri.removeprefix(last_seen.SQLITE))
    database.with_name(database.name + beside).touch()
    seen(registry)
    assert 2 == registry.times


def test_a_database_with_a_log_is_asked(registry: Asked) -> None:
    """Somebody has made it write to a log first, which leaves its change counter as it is."""
    with sqlite3.connect(registry.session.uri.removeprefix(last_seen.SQLITE)) as connection:
        assert ("wal",) == connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.close()
    seen(registry)
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
