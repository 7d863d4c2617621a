"""A change of champion: three places that must agree, and a note of where it is going.

The registry's aliases, the pointer ``current`` and the history cannot change in one step. So the whole move is written
to ``state/pending.json`` before anything moves, and the note is removed last. Each of its steps may be repeated, and
whoever comes next (a run, ``promote``, ``rollback``) first finishes a move that was killed: :func:`reconcile`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from pipeline.core.errors import ChampionMovedError, RegistryError
from pipeline.core.files import Document
from pipeline.release import publish as handing_off
from pipeline.release._desk import Desk
from pipeline.tracking.registry import HELD_TAG

FILE = "state/pending.json"


class Move(Document):
    """Everything that is to change and what it was before."""

    sequence: int
    """Number of the entry that the history will have of it: with it, the move has happened."""
    model: str
    action: Literal["promoted", "rolled_back"]
    version: int
    """Champion to be."""
    previous: int | None
    """Previous champion to be."""
    champion_before: int | None
    previous_before: int | None
    reason: str
    verdict_digest: str | None = None
    """None where a person decided."""
    bundle_digest: str | None = None
    """Of what ``v<version>`` must hold; None where any bundle of the version's model will do."""


class Reconciled(NamedTuple):
    """What became of a move that was killed."""

    move: Move
    line: str
    finished: bool
    """Otherwise it could not be finished, and was taken back."""


def promotion(desk: Desk, version: int, reason: str, *, verdict: str | None = None, bundle: str | None = None) -> Move:
    """``version`` becomes champion, the champion becomes previous; ``verdict`` and ``bundle`` are digests."""
    champion, previous = desk.champion, desk.previous
    return Move(
        sequence=desk.history.next_sequence,
        model=desk.model,
        action="promoted",
        version=version,
        previous=previous if champion == version else champion,
        champion_before=champion,
        previous_before=previous,
        reason=reason,
        verdict_digest=verdict,
        bundle_digest=bundle,
    )


def rollback(desk: Desk, champion: int, previous: int, further: int | None, reason: str) -> Move:
    """``previous`` becomes champion again, ``further`` becomes previous."""
    return Move(
        sequence=desk.history.next_sequence,
        model=desk.model,
        action="rolled_back",
        version=previous,
        previous=further,
        champion_before=champion,
        previous_before=previous,
        reason=reason,
    )


# -- the steps of a move -----------------------------------------------------------------------------------------------


def carry_out(desk: Desk, move: Move) -> None:
    """All of it; may be repeated after a kill at any point.

    Raises:
        RegistryError: the version or its bundle is lost, or somebody else moved the alias. This call has then moved
            nothing.
    """
    version = desk.registry.version(move.version)
    handing_off.ensure_published(desk, version, move.bundle_digest)
    begin(desk, move)
    handing_off.point(desk.handoff, move.version)
    desk.registry.untag(move.version, HELD_TAG)
    conclude(desk, move)


def begin(desk: Desk, move: Move) -> None:
    """Note the move, then move the aliases.

    Raises:
        ChampionMovedError: the champion is another than the move starts from; no note is left.
    """
    desk.registry.compare(move.version, move.champion_before)
    move.save(desk.workspace / FILE)
    try:
        desk.registry.crown(move.version, move.previous, expected_champion=move.champion_before)
    except ChampionMovedError:
        _forget(desk)  # nothing was moved, and nobody may finish later what was refused now
        raise


def conclude(desk: Desk, move: Move) -> None:
    """Write the move into the history, once; from here on it has happened."""
    version = desk.registry.version(move.version)
    if not has_happened(desk, move):
        desk.write_down(move.action, version, move.champion_before, move.reason, move.verdict_digest)
    with contextlib.suppress(OSError):  # a note that stays is recognised by the history
        _forget(desk)


def take_back(desk: Desk, move: Move) -> None:
    """Aliases and pointer as they were. A champion that another has made meanwhile stays, and with it the pointer."""
    before = move.champion_before
    with contextlib.suppress(ChampionMovedError):
        if _is_begun(desk, move):
            desk.registry.crown(before, move.previous_before, expected_champion=move.version)
        desk.registry.compare(before)
        if before is None:
            handing_off.unpoint(desk.handoff, move.version)
        elif (desk.handoff / f"v{before}").is_dir():
            handing_off.point(desk.handoff, before)
    _forget(desk)


def _is_begun(desk: Desk, move: Move) -> bool:
    """Has it moved an alias? ``previous`` is moved first. Where it has moved none, both are somebody else's affair, who
    may have promoted and rolled back since: the champion is the same then, and ``previous`` another."""
    champion, previous = desk.champion, desk.previous
    return champion == move.version or (champion == move.champion_before and previous == move.previous)


def has_happened(desk: Desk, move: Move) -> bool:
    return desk.history.next_sequence > move.sequence


# -- after a kill ------------------------------------------------------------------------------------------------------


def reconcile(desk: Desk) -> Reconciled | None:
    """Finish the move that a killed process has begun; take it back where it cannot be finished. None: there is none.

    Raises:
        ServiceError: the registry does not answer; the note stays for the next time.
    """
    move = _noted(desk.workspace)
    if move is None:
        return None
    desk = desk.of(move.model)
    what = "promotion" if move.action == "promoted" else "rollback"
    try:
        carry_out(desk, move)
    except RegistryError as error:
        take_back(desk, move)
        reason = f"expected {error.expected}; found {error.found}"
        return Reconciled(move, f"took back the {what} that was killed: {reason}", finished=False)
    line = f"finished the {what} that was killed: champion {move.model} v{move.version} · {desk.shown(move.version)}"
    return Reconciled(move, line, finished=True)


def _noted(workspace: Path) -> Move | None:
    path = workspace / FILE
    if not path.is_file():
        return None
    try:
        return Move.load(path)
    except ValidationError:
        path.unlink()  # notes are written whole: this one is not ours
        return None


def _forget(desk: Desk) -> None:
    (desk.workspace / FILE).unlink(missing_ok=True)
