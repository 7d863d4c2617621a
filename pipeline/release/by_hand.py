"""What a person decides: which version is champion, whatever the gates said."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import GraftlineError, RegistryError
from pipeline.core.lock import workspace_lock
from pipeline.release import moves, pin
from pipeline.release import publish as handing_off
from pipeline.release._desk import Desk
from pipeline.tracking.registry import CHAMPION, HELD_TAG, PREVIOUS, Version

if TYPE_CHECKING:
    from pipeline.params import Settings


def version_lines(workspace: Path, settings: Settings) -> list[str]:
    """One line per registered version, oldest first."""
    versions = Desk(workspace, settings).versions()
    return [_line(settings.model, version) for version in versions] or [
        f"No version of {settings.model} yet: graftline run makes the first one."
    ]


def version_records(workspace: Path, settings: Settings) -> list[dict[str, object]]:
    """The same for programs: a mapping per registered version, oldest first."""
    return [
        {
            "model": settings.model,
            "version": version.number,
            "aliases": list(version.aliases),
            "created": version.created.isoformat(timespec="seconds"),
            "verdict": version.tags.get("verdict"),
            "held": version.tags.get(HELD_TAG),
            "sha256": version.sha256,
            "run_id": version.run_id,
        }
        for version in Desk(workspace, settings).versions()
    ]


def promote_version(workspace: Path, settings: Settings, version: int, *, reason: str) -> str:
    """Make ``version`` the champion, whatever its verdict, and hand it off. Returns what happened, for people: a line,
    and one before it where a killed move had to be finished first.

    Raises:
        RegistryError: no such version, or its bundle is lost.
    """
    with workspace_lock(workspace):
        desk = Desk(workspace, settings)
        reconciled = moves.reconcile(desk)
        line = _promote(desk, version, reason)
    return f"{reconciled.line}\n{line}" if reconciled else line


def _promote(desk: Desk, version: int, reason: str) -> str:
    chosen, champion = desk.registry.version(version), desk.champion
    if champion == version and desk.history.champions(desk.model)[-1:] == [version]:
        handing_off.ensure_published(desk, chosen)
        handing_off.point(desk.handoff, version)
        return f"{desk.model} {chosen} is the champion already · {desk.shown(version)}"
    moves.carry_out(desk, moves.promotion(desk, version, reason))
    _pin(desk)
    before = f"v{champion}" if champion else "none"
    return f"champion {desk.model} {chosen} (before: {before}) · {desk.shown(version)}{_overruled(chosen)}"


def rollback(workspace: Path, settings: Settings, *, reason: str) -> str:
    """Bring the champion before this one back, in the registry and in ``current``. Returns what happened, for people.

    A second rollback goes one further back, never forward to what was rolled back. One that was killed is finished by
    repeating it: that goes no further.

    Raises:
        RegistryError: there is no previous champion, or its bundle is lost.
    """
    with workspace_lock(workspace):
        desk = Desk(workspace, settings)
        reconciled = moves.reconcile(desk)
        if reconciled and reconciled.finished and reconciled.move.action == "rolled_back":
            return reconciled.line
        line = _roll_back(desk, reason)
    return f"{reconciled.line}\n{line}" if reconciled else line


def _roll_back(desk: Desk, reason: str) -> str:
    champion, previous = desk.registry.require(CHAMPION), desk.registry.require(PREVIOUS)
    if champion.number == previous.number:
        raise RegistryError(
            expected=f"a previous champion of '{desk.model}' other than the champion",
            found=f"{previous} as both",
            where=f"the registry at {desk.session.shown_uri}",
            remedy="graftline history tells who was champion before; bring that one back with graftline promote "
            "VERSION.",
        )
    further = _before(desk.history.champions(desk.model), champion.number, previous.number)
    moves.carry_out(desk, moves.rollback(desk, champion.number, previous.number, further, reason))
    _pin(desk)
    shown = f"{desk.shown(previous.number)}{_overruled(previous)}"
    return f"champion {desk.model} {previous} (rolled back from {champion}) · {shown}"


def _pin(desk: Desk) -> None:
    """For `dvc repro`, which would compare with the champion before. The move is made, and a run pins the champion for
    itself: what goes wrong here must not look like a move that failed, for a rollback repeated goes one further."""
    with contextlib.suppress(GraftlineError, OSError, ValueError):
        pin.pin_champion(desk)


def _overruled(version: Version) -> str:
    return " · its gates had failed" if version.tags.get("verdict") == "failed" else ""


def _before(champions: list[int], champion: int, previous: int) -> int | None:
    """Who was champion before ``previous``, if the history agrees with the aliases."""
    return champions[-3] if champions[-2:] == [previous, champion] and len(champions) > 2 else None


def _line(model: str, version: Version) -> str:
    verdict = version.tags.get("verdict", "unjudged")
    held = f" · held: {version.tags[HELD_TAG]}" if HELD_TAG in version.tags else ""
    made = f"{version.created:%Y-%m-%d %H:%M} UTC"
    return f"{model} {version!s:<4} {', '.join(version.aliases):<20} {made}  {verdict}  {version.sha256[:12]}{held}"
