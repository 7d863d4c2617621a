"""One process at a time moves the aliases, whatever the store."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.core.errors import ServiceError, StoreError
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


def test_a_lease_that_cannot_be_removed_hides_no_error(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is gone by then: what went wrong in the block is told, and the lease runs out by itself."""

    def gone(*_: object) -> None:
        raise StoreError("no answer any more")

    monkeypatch.setattr(locking, "_remove", gone)
    with pytest.raises(ServiceError, match=r"no answer$"), alias_lock(shared, "digits"):
        _fail_while(True)


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


def test_the_lock_of_a_server_lies_in_the_workspace(shared: Session, tmp_path: Path) -> None:
    """Of one workspace only one goes to the server at a time; its folder is made where it is missing."""
    fresh = dataclasses.replace(shared, workspace=tmp_path / "fresh")
    assert tmp_path / "fresh/.graftline/aliases.lock" == lock_file(fresh)
    assert (tmp_path / "fresh/.graftline").is_dir()
    assert lock_file(fresh) == lock_file(fresh)


def test_a_lock_file_that_is_held_for_too_long_is_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what may be the matter; the block is not entered."""
    monkeypatch.setattr(locking, "GIVE_UP_AFTER_S", 0.0)
    with FileLock(lock_file(session)), pytest.raises(StoreError) as caught, alias_lock(session, "digits"):
        pytest.fail("two hold it")
    assert str(caught.value) == (
        f"Another process has held {lock_file(session)} for 0 s. See whether it is stopped (a debugger, SIGSTOP), and "
        "repeat the command."
    )


def test_the_lock_is_free_after_an_error(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the check of a database allows every write."""
    monkeypatch.setattr(locking, "GIVE_UP_AFTER_S", 0.0)

    def go_wrong() -> None:
        with alias_lock(session, "digits") as check:
            check()
            raise KeyError("in the block")

    for _ in range(2):
        with pytest.raises(KeyError):
            go_wrong()


def test_a_lease_says_whose_it_is(shared: Session) -> None:
    """For whoever finds it in MLflow's list of models; in time, its holder may write."""
    with alias_lock(shared, "digits") as check:
        check()
        tags = shared.client.get_registered_model("digits (aliases are being moved)").tags
    assert f"pid {os.getpid()} on {platform.node()}" == tags["holder"]
    assert 32 == len(tags["token"])


def test_a_lease_that_has_run_out_is_left(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time the request arrives it may be another's; the message gives the times."""
    now = [1000.0]
    monkeypatch.setattr(locking, "_now", lambda: now[0])
    with alias_lock(shared, "digits") as check:
        now[0] += locking.WRITE_WITHIN_S
        check()
        now[0] += 5
        with pytest.raises(StoreError) as caught:
            check()
    assert str(caught.value) == (
        "Moving the aliases of 'digits' in https://***@mlflow.example took 25 s; after 20 s another may be at work "
        "there, so no more is written. Repeat the command."
    )
    assert [lease_name("digits")] == models(shared)


def test_a_lease_whose_answer_was_lost_is_ours(shared: Session) -> None:
    """The request arrived and its answer did not: asked again, the server says that it exists, with our token."""
    assert locking._made(shared, "lease", "ours")
    assert locking._made(shared, "lease", "ours")
    assert not locking._made(shared, "lease", "theirs")
    assert "ours" == locking._holder(shared, "lease")[0]


def test_nobody_holds_what_is_not_there(shared: Session) -> None:
    """A model of that name without our tags is somebody's; to remove what is gone is no error."""
    assert ("", "") == locking._holder(shared, "lease")
    locking._remove(shared, "lease", "ours")
    shared.client.create_registered_model("lease")
    assert ("", "somebody") == locking._holder(shared, "lease")
    locking._remove(shared, "lease", "ours")
    assert ["lease"] == models(shared)


def test_a_lease_that_goes_while_it_is_removed_is_gone(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has removed it between the look and the removal: that is what was wanted."""
    locking._made(shared, "lease", "ours")
    holder = locking._holder

    def removed_meanwhile(session: Session, name: str) -> tuple[str, str]:
        found = holder(session, name)
        session.client.delete_registered_model(name)
        return found

    monkeypatch.setattr(locking, "_holder", removed_meanwhile)
    locking._remove(shared, "lease", "ours")
    assert [] == models(shared)


def test_time_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system can tell: a holder whose laptop was closed has held the lease all that time."""
    clocks = {7: 1000.0, time.CLOCK_MONOTONIC: 10.0}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    assert 1000.0 == locking._now()
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert 10.0 == locking._now()


def test_of_several_who_would_break_a_lease_one_does(shared: Session) -> None:
    """Whoever finds another at it leaves it alone; and it is left alone where it is another's by now."""
    locking._made(shared, "lease", "dead")
    locking._made(shared, "lease dead", "another breaker")
    locking._break(shared, "lease", "dead")
    assert ["lease", "lease dead"] == models(shared)
    locking._remove(shared, "lease dead", "another breaker")
    locking._break(shared, "lease", "somebody who had it before")
    assert ["lease"] == models(shared)
    locking._break(shared, "lease", "dead")
    assert [] == models(shared)


@pytest.mark.usefixtures("quick")
def test_a_lease_that_passes_from_hand_to_hand_is_not_broken(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holder is given the whole time: it is the same one seen for too long who counts as dead."""
    now, looks, broken = [1000.0], [0], []
    holders = ["first"] * 3 + ["second"] * 3

    def slept(_: float) -> None:
        now[0] += 0.09
        looks[0] += 1

    monkeypatch.setattr(locking, "_now", lambda: now[0])
    monkeypatch.setattr(locking.time, "sleep", slept)
    monkeypatch.setattr(locking, "_made", lambda *_: looks[0] == len(holders))
    monkeypatch.setattr(locking, "_holder", lambda *_: (holders[looks[0]], "pid 1"))
    monkeypatch.setattr(locking, "_break", lambda *_: broken.append(looks[0]))
    assert now[0] + 0.09 * len(holders) == pytest.approx(locking._take(shared, "lease", "ours"))
    assert [] == broken


def test_who_waits_looks_again_and_again_but_not_at_once(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between one and two tenths of a second, so that those who wait do not ask in step; then gives up by name."""
    now, slept = [1000.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += 50.0

    monkeypatch.setattr(locking, "_now", lambda: now[0])
    monkeypatch.setattr(locking.time, "sleep", sleep)
    locking._made(shared, "lease", "theirs")
    monkeypatch.setattr(locking, "_break", lambda *_: None)
    with pytest.raises(StoreError) as caught:
        locking._take(shared, "lease", "ours")
    assert str(caught.value) == (
        f"pid {os.getpid()} on {platform.node()} has held 'lease' in https://***@mlflow.example for 650 s. If that "
        "process no longer lives, delete the registered models whose names begin so in MLflow, and repeat the command."
    )
    assert 13 == len(slept)
    assert 0.1 <= min(slept) < max(slept) <= 0.2


@pytest.mark.parametrize(
    ("asked", "does"),
    [
        (lambda session: locking._made(session, "", "token"), "lock the aliases"),
        (lambda session: locking._holder(session, ""), "say who holds the aliases"),
        (lambda session: locking._remove(session, "", "token"), "say who holds the aliases"),
    ],
)
def test_what_mlflow_refuses_is_told_in_words(shared: Session, asked: object, does: str) -> None:
    """Here a name that it does not take."""
    with pytest.raises(StoreError, match=f"MLflow did not {does}: "):
        asked(shared)
