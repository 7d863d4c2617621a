"""One process at a time moves the aliases, whatever the store."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.core.errors import ServiceError
from pipeline.tracking import alias_lock as locking
from pipeline.tracking.alias_lock import alias_lock, lease_name, lock_file
from pipeline.tracking.session import Session


@pytest.fixture
def shared(session: Session) -> Session:
    """A store that no lock file reaches: the lease is what counts. (The client still writes to the sqlite file.)"""
    return dataclasses.replace(session, uri="https://me:pw@mlflow.example")


def models(session: Session) -> list[str]:
    return [model.name for model in session.client.search_registered_models()]


def _fail_while(held: bool) -> None:
    assert held
    raise ServiceError("no answer")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "LEASE_S", 0.2)
    monkeypatch.setattr(locking, "LOOK_EVERY_S", 0.01)


def test_the_lock_of_a_database_lies_beside_it(session: Session, workspace: Path) -> None:
    """So that every workspace that uses this database finds the same one."""
    elsewhere = dataclasses.replace(session, workspace=workspace / "other")
    assert workspace / ".graftline/mlflow.db.aliases.lock" == lock_file(session) == lock_file(elsewhere)


def test_a_lease_is_gone_when_its_holder_is_done(shared: Session) -> None:
    """Nothing of it stays in the list of models, not even after an error in the block."""
    with pytest.raises(ServiceError, match="no answer"), alias_lock(shared, "digits"):
        _fail_while([lease_name("digits")] == models(shared))
    assert [] == models(shared)


@pytest.mark.usefixtures("quick")
def test_the_lease_of_a_dead_holder_is_taken_over(shared: Session) -> None:
    """After it was seen unchanged for long enough; nothing of it, nor of the taking over, is left."""
    tags = {locking.TOKEN: "dead", locking.HOLDER: "pid 1 on elsewhere"}
    shared.client.create_registered_model(lease_name("digits"), tags=tags)
    with alias_lock(shared, "digits"):
        assert "dead" != shared.client.get_registered_model(lease_name("digits")).tags[locking.TOKEN]
    assert [] == models(shared)


@pytest.mark.usefixtures("quick")
def test_a_lease_that_cannot_be_taken_over_is_named(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was to remove it died over that: the message says who holds what and what to delete, and hides secrets."""
    monkeypatch.setattr(locking, "GIVE_UP_AFTER_S", 0.5)
    tags = {locking.TOKEN: "dead", locking.HOLDER: "pid 1 on elsewhere"}
    for name in (lease_name("digits"), f"{lease_name('digits')} dead"):
        shared.client.create_registered_model(name, tags={**tags, locking.TOKEN: "dead" + name[-1:]})
    shared.client.set_registered_model_tag(lease_name("digits"), locking.TOKEN, "dead")
    with pytest.raises(ServiceError) as caught, alias_lock(shared, "digits"):
        pass
    assert str(caught.value).startswith(f"pid 1 on elsewhere has held '{lease_name('digits')}' in https://***@mlflow")
    assert "delete the registered models whose names begin so" in str(caught.value)


def test_a_holder_who_slept_writes_nothing(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may be at work by then."""
    with alias_lock(shared, "digits") as check:
        monkeypatch.setattr(locking, "WRITE_WITHIN_S", -1.0)
        with pytest.raises(ServiceError, match=r"so no more is written\. Repeat the command"):
            check()


def test_a_holder_who_was_taken_for_dead_removes_nothing(shared: Session) -> None:
    """What he finds under the name is his successor's."""
    with alias_lock(shared, "digits"):
        shared.client.set_registered_model_tag(lease_name("digits"), locking.TOKEN, "successor")
    assert [lease_name("digits")] == models(shared)
