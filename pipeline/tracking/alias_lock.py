"""One process at a time moves a model's aliases, over all workspaces that share the registry.

MLflow has no compare-and-swap: whoever compares and then writes must be alone. How that is seen to depends on the
store.

- **sqlite**: a lock file beside the database. The operating system frees it when its holder dies.
- **a server, or another database**: a registered model called ``NAME (aliases are being moved)``. Its name is unique in
  the registry, so that of two who make it one is refused. It is a lease: its holder writes nothing once
  ``WRITE_WITHIN_S`` have passed, and who has seen the same holder for ``LEASE_S`` takes him for dead and removes it.

What remains with a server: a holder whose last request lies for longer than ``LEASE_S - WRITE_WITHIN_S`` on the way to
it. Only the server could refuse that one.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import StoreError
from pipeline.tracking.session import SQLITE, Session, asking_mlflow

LEASE_S = 60.0
WRITE_WITHIN_S = 20.0
"""Moving the aliases takes well under a second."""

GIVE_UP_AFTER_S = 600.0
LOOK_EVERY_S = 0.1
TOKEN, HOLDER = "token", "holder"

Check = Callable[[], None]
"""Call it right before a write.

Raises:
    StoreError: the lease has run out; nothing may be written any more.
"""


@contextlib.contextmanager
def alias_lock(session: Session, model: str) -> Iterator[Check]:
    """Be the only one who moves the aliases of ``model``; waits for others.

    Raises:
        StoreError: the store does not answer, or somebody has held it for too long.
    """
    file = lock_file(session)
    lock = FileLock(file, timeout=GIVE_UP_AFTER_S)
    try:
        lock.acquire()  # of one workspace only one goes to the server at a time
    except Timeout:
        raise StoreError(
            f"Another process has held {file} for {GIVE_UP_AFTER_S:.0f} s. See whether it is stopped (a debugger, "
            "SIGSTOP), and repeat the command."
        ) from None
    try:
        if session.uri.startswith(SQLITE):
            yield lambda: None
        else:
            with _leased(session, model) as check:
                yield check
    finally:
        lock.release()


def lock_file(session: Session) -> Path:
    """Beside a sqlite database, for everyone who uses it; else in the workspace."""
    if session.uri.startswith(SQLITE):
        database = Path(session.uri.removeprefix(SQLITE))
        return database.with_name(f"{database.name}.aliases.lock")
    path = session.workspace / ".graftline/aliases.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def lease_name(model: str) -> str:
    """The registered model that stands for the lock; people may see it in MLflow's list for a moment."""
    return f"{model} (aliases are being moved)"


# -- the lease ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _leased(session: Session, model: str) -> Iterator[Check]:
    name, token = lease_name(model), uuid.uuid4().hex
    taken = _take(session, name, token)

    def check() -> None:
        if (held := _now() - taken) > WRITE_WITHIN_S:
            raise StoreError(
                f"Moving the aliases of '{model}' in {session.shown_uri} took {held:.0f} s; after "
                f"{WRITE_WITHIN_S:.0f} s another may be at work there, so no more is written. Repeat the command."
            )

    try:
        yield check
    finally:
        # Later it may be another's by the time the request arrives; it runs out by itself.
        if _now() - taken <= WRITE_WITHIN_S:
            with contextlib.suppress(StoreError):  # what happened in the block matters more
                _remove(session, name, token)


def _take(session: Session, name: str, token: str) -> float:
    """Make the lease ours; returns when it may have begun: before the request that made it was sent."""
    started, seen, since = _now(), "", _now()
    while True:
        asked = _now()
        if _made(session, name, token):
            return asked
        found, holder = _holder(session, name)
        if found != seen:
            seen, since = found, _now()
        if found and _now() - since > LEASE_S:
            _break(session, name, found)
        if _now() - started > GIVE_UP_AFTER_S:
            raise StoreError(
                f"{holder} has held '{name}' in {session.shown_uri} for {_now() - since:.0f} s. If that process no "
                "longer lives, delete the registered models whose names begin so in MLflow, and repeat the command."
            )
        time.sleep(random.uniform(LOOK_EVERY_S, 2 * LOOK_EVERY_S))


def _break(session: Session, name: str, token: str) -> None:
    """Remove a dead holder's lease. Of several who would, one may; he looks again whether it is still that one's."""
    breaker, own = f"{name} {token}", uuid.uuid4().hex
    if _made(session, breaker, own):
        try:
            _remove(session, name, token)
        finally:
            _remove(session, breaker, own)


@asking_mlflow("lock the aliases")
def _made(session: Session, name: str, token: str) -> bool:
    from mlflow import MlflowException

    tags = {TOKEN: token, HOLDER: f"pid {os.getpid()} on {platform.node()}"}
    try:
        session.client.create_registered_model(name, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _holder(session, name)[0] == token  # made by a request of ours whose answer was lost
    return True


@asking_mlflow("say who holds the aliases")
def _holder(session: Session, name: str) -> tuple[str, str]:
    """Token and description of the holder; empty where there is none."""
    from mlflow import MlflowException

    try:
        tags = session.client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return "", ""
    return tags.get(TOKEN, ""), tags.get(HOLDER, "somebody")


@asking_mlflow("unlock the aliases")
def _remove(session: Session, name: str, token: str) -> None:
    from mlflow import MlflowException

    if _holder(session, name)[0] != token:
        return
    try:
        session.client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _now() -> float:
    """Seconds; never set back, and where the system can tell, not stopped while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
