"""The steps beside the stages, each a plain function of ``(workspace, settings, …)``; the flow puts them in order:

    recover                                                              before anything: what a killed run has left
    register → smoke_test → promote → publish → conclude → announce      the verdict passed
    register → hold → announce                                           it did not
    settled                                                              it was decided before: nothing to do

``promote`` and ``publish`` return what their ``undo_…`` needs; ``withdraw`` undoes ``register``. Every step may be
repeated. A promotion that was killed between two of them is finished by ``recover``, see :mod:`pipeline.release.moves`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.errors import GraftlineError, StoreError
from pipeline.release import continuity, decide, leftovers, moves, notify, pin
from pipeline.release import publish as handing_off
from pipeline.release._desk import Desk
from pipeline.release.by_hand import promote_version, rollback, version_lines, version_records
from pipeline.release.decide import Judged, Kind, Outcome
from pipeline.release.history import Entry
from pipeline.release.moves import Move
from pipeline.release.pin import ensure_pins
from pipeline.release.publish import Published
from pipeline.serving import signing_key
from pipeline.tracking import bundles, runs, unsent
from pipeline.tracking.registry import CHALLENGER, CHAMPION, HELD_TAG

if TYPE_CHECKING:
    from pipeline.params import Settings

__all__ = [
    "announce",
    "check_continuity",
    "check_signing_key",
    "check_webhook",
    "conclude",
    "ensure_pins",
    "finish_run",
    "hold",
    "keep_record",
    "live_curves",
    "pin_champion",
    "pin_last_data",
    "promote",
    "promote_version",
    "publish",
    "record_run",
    "recover",
    "register",
    "rollback",
    "settled",
    "smoke_test",
    "start_run",
    "undo_promote",
    "undo_publish",
    "version_lines",
    "version_records",
    "withdraw",
]


# -- before the stages -------------------------------------------------------------------------------------------------


def check_webhook(settings: Settings) -> None:
    """See that the notice will have an address: better known before hours of training than after.

    Raises:
        ParamsError: the environment variable it names is not set or holds no address, or it may not be asked.
    """
    notify.check(settings.notify)


def check_signing_key(workspace: Path, settings: Settings) -> None:
    """See that the result can be signed; no key is made yet.

    Raises:
        ParamsError: the key that params.yaml names is not there, or cannot be signed with.
    """
    signing_key.check(workspace, settings.publish.signing_key)


def check_continuity(workspace: Path, settings: Settings) -> None:
    """See that the registry is the one that the history was written in.

    Raises:
        RegistryError: it does not have the model that the history calls champion.
    """
    continuity.check(Desk(workspace, settings))


def recover(workspace: Path, settings: Settings) -> list[str]:
    """Clear up after a run that was killed: finish its promotion (or a person's rollback), close its MLflow run, remove
    its temporary folders. Only under the workspace's lock. Returns a line for people for each thing done.

    Raises:
        RegistryError: the registry is not the one that the history was written in.
    """
    desk = Desk(workspace, settings)
    with contextlib.suppress(StoreError):  # asked again by pin_champion: training does not need the store
        continuity.check(desk)
    reconciled = moves.reconcile(desk)
    return [*([reconciled.line] if reconciled else []), *leftovers.clear(desk)]


def pin_last_data(workspace: Path, settings: Settings) -> bool:
    """Before a stale ingest: keep the last data's profile, and what their features were, for comparison. Returns
    whether either changed."""
    changed = [pin.pin_data_profile(workspace), pin.pin_previous_domain(workspace)]
    return any(changed)


def pin_champion(workspace: Path, settings: Settings) -> str:
    """Between export and evaluate: pin the champion to compare with. Returns a line for people.

    Raises:
        RegistryError: the registry is not the one that the history was written in.
    """
    desk = Desk(workspace, settings)
    continuity.check(desk)
    pinned = pin.pin_champion(desk)
    return f"compared with {pinned.title}" if pinned.version else "no champion to compare with"


# -- tracking ----------------------------------------------------------------------------------------------------------


def start_run(workspace: Path, settings: Settings) -> str:
    """Open the MLflow run of this flow run; returns its id."""
    return runs.start(Desk(workspace, settings).session, settings.model)


def live_curves(workspace: Path, settings: Settings, run_id: str, path: Path) -> runs.LiveCurves:
    """A follower of the training's ``live.jsonl``; call its ``update()`` now and then while the stage runs."""
    return runs.LiveCurves(Desk(workspace, settings).session, run_id, path)


def record_run(workspace: Path, settings: Settings, run_id: str) -> None:
    """Log everything the stages left behind, and the bundle."""
    session = Desk(workspace, settings).session
    runs.record(session, run_id, settings.model_dump(mode="json", by_alias=True))
    bundle = _bundle(workspace)
    if bundle.is_dir():
        bundles.log_bundle(session, run_id, bundle, decide.judged(workspace).sha256)


def keep_record(
    workspace: Path, settings: Settings, run_id: str | None, outcome: Outcome | None, started_s: float
) -> Path:
    """Keep on disk what :func:`record_run` and :func:`finish_run` would have sent; the next :func:`recover` sends it.
    Returns the folder."""
    return unsent.keep(
        workspace,
        run_id=run_id,
        model=settings.model,
        started_s=started_s,
        failed=outcome is None,
        tags=_outcome_tags(outcome),
        params=settings.model_dump(mode="json", by_alias=True),
    )


def finish_run(workspace: Path, settings: Settings, run_id: str, outcome: Outcome | None) -> None:
    """Close the run with its outcome; None means it failed before there was one."""
    tags = _outcome_tags(outcome)
    runs.finish(Desk(workspace, settings).session, run_id, failed=outcome is None, tags=tags)


def _outcome_tags(outcome: Outcome | None) -> dict[str, object]:
    return {"outcome": outcome.kind, "version": outcome.version, "reason": outcome.reason} if outcome else {}


# -- deciding ----------------------------------------------------------------------------------------------------------


def settled(workspace: Path, settings: Settings) -> Outcome | None:
    """The outcome "nothing changed", if exactly this model was decided on with exactly this verdict; else None.

    Also after a rollback: a run must not promote again what a person has replaced. What another run's challenger has
    replaced is decided on anew, against that one: so data that go back bring their model back. Where the champion's
    hand-off folder was lost, it is put back.
    """
    desk, judged = Desk(workspace, settings), decide.judged(workspace)
    entry = desk.history.decided(desk.model, judged.sha256, judged.digest)
    if entry is None or judged.sha256 not in {version.sha256 for version in desk.versions()}:
        return None  # new, or the registry that knew of it is gone
    champion = desk.at(CHAMPION)
    if (champion is None or champion.sha256 != judged.sha256) and _was_outdone(desk, entry):
        return None
    if champion is not None:
        handing_off.ensure_published(desk, champion)
        handing_off.point(desk.handoff, champion.number)
    reason = f"{desk.model} v{entry.version} was {entry.action} on the same verdict before ({entry.reason})"
    return _outcome("unchanged", desk, judged, entry.version, reason)


def _was_outdone(desk: Desk, entry: Entry) -> bool:
    """Was it promoted, and then replaced by a verdict and not by a person?"""
    successor = desk.history.replaced_by(entry) if entry.action == "promoted" else None
    return successor is not None and successor.verdict_digest is not None


def register(workspace: Path, settings: Settings, run_id: str) -> int:
    """Register the workspace's model as ``challenger``; returns the version, an old one if the file is the same."""
    desk, judged = Desk(workspace, settings), decide.judged(workspace)
    tags = {
        "verdict": "passed" if judged.verdict.passed else "failed",
        "verdict_digest": judged.digest,
        "data_digest": runs.data_digest(workspace),
        bundles.RUN_TAG: run_id,
    }
    version = desk.registry.register(workspace / CATALOG["model"].path, run_id, tags)
    desk.registry.challenge(version.number)
    return version.number


def withdraw(workspace: Path, settings: Settings, version: int, reason: str) -> None:
    """Undo :func:`register`: the version stays in the list, says why, and is challenger no more."""
    registry = Desk(workspace, settings).registry
    registry.tag(version, {HELD_TAG: reason})
    registry.unalias(CHALLENGER, version)


def smoke_test(workspace: Path, settings: Settings, version: int) -> str:
    """Load the version from the registry and repeat the bundle's golden answers.

    Raises:
        BundleError: the bundle is not whole, or not of this version.
        RegistryError: the registry does not hand out the file that was registered.
        ReleaseError: the answers differ.
    """
    from pipeline.release import smoke

    registry = Desk(workspace, settings).registry
    return smoke.smoke_test(registry, registry.version(version), _bundle(workspace))


def promote(workspace: Path, settings: Settings, version: int) -> Move:
    """Make ``version`` the champion, if the champion is still the one the evaluation compared with. The whole move is
    noted first; :func:`conclude` ends it.

    Raises:
        ChampionMovedError: somebody moved the alias since the evaluation.
    """
    desk, judged = Desk(workspace, settings), decide.judged(workspace)
    bundle = digests.of_path(_bundle(workspace))
    move = moves.promotion(desk, version, judged.reason, verdict=judged.digest, bundle=bundle)
    _check_compared_with(desk, move, pin.read_pin(workspace).version)
    try:
        moves.begin(desk, move)
    except GraftlineError:
        moves.take_back(desk, move)
        raise
    return move


def _check_compared_with(desk: Desk, move: Move, pinned: int | None) -> None:
    """Of the very look that the move starts from: a champion who comes later is found by the move's own comparison."""
    if move.champion_before not in (move.version, pinned):
        raise desk.registry.moved(pinned, move.champion_before)


def undo_promote(workspace: Path, settings: Settings, move: Move) -> None:
    """Put the aliases back. A promotion that is in the history already (the run was interrupted right after) stands."""
    desk = Desk(workspace, settings)
    undo = moves.carry_out if moves.has_happened(desk, move) else moves.take_back
    undo(desk, move)


def publish(workspace: Path, settings: Settings, version: int) -> Published:
    """Hand the bundle off as ``v<version>``, signed, and move ``current`` to it."""
    desk = Desk(workspace, settings)
    return handing_off.publish(desk.claimed_handoff, _bundle(workspace), version, desk.signer)


def undo_publish(workspace: Path, settings: Settings, published: Published) -> None:
    """Move ``current`` back."""
    handing_off.undo_publish(Desk(workspace, settings).handoff, published)


def conclude(workspace: Path, settings: Settings, move: Move) -> Outcome:
    """Write the promotion into the history: from here on it has happened, so nothing that may fail comes after."""
    desk, judged = Desk(workspace, settings), decide.judged(workspace)
    desk.registry.untag(move.version, HELD_TAG)
    outcome = _outcome("promoted", desk, judged, move.version)
    moves.conclude(desk, move)
    return outcome


def hold(workspace: Path, settings: Settings, version: int) -> Outcome:
    """Do not promote: the version is kept as challenger with the reason, the hand-off is untouched."""
    desk, judged = Desk(workspace, settings), decide.judged(workspace)
    desk.registry.tag(version, {HELD_TAG: judged.reason})
    outcome, held = _outcome("held", desk, judged, version), desk.registry.version(version)
    desk.write_down("held", held, outcome.champion, judged.reason, judged.digest)  # last, so that a retry adds no other
    return outcome


def announce(workspace: Path, settings: Settings, outcome: Outcome) -> bool:
    """Tell the webhook; False where none is set.

    Raises:
        ServiceError: it did not take the notice; the decision stands, so retry or let it be.
    """
    return notify.send(settings.notify, notify.notice(outcome, workspace.resolve().name))


def _bundle(workspace: Path) -> Path:
    return workspace / CATALOG["bundle"].path


def _outcome(kind: Kind, desk: Desk, judged: Judged, version: int, reason: str | None = None) -> Outcome:
    champion = desk.champion
    return decide.outcome(
        kind,
        judged,
        model=desk.model,
        version=version,
        champion=champion,
        previous=desk.previous,
        handoff=desk.shown(champion) if champion else None,
        reason=reason,
    )
