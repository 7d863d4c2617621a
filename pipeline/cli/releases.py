"""``models``, ``promote``, ``rollback`` and ``history``: who is champion, who was, and why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import CURRENT, Workspace, app, say, say_json
from pipeline.cli.workspaces import write_report
from pipeline.core.errors import InputError

if TYPE_CHECKING:
    from pipeline.params import Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


@app.command()
def models(workspace: Workspace = CURRENT, as_json: AsJson = False) -> None:
    """List the registered versions of this workspace's model and their aliases."""
    from pipeline import params
    from pipeline.release import steps

    settings = params.load(workspace)
    if as_json:
        for record in steps.version_records(workspace, settings):
            say_json(record)
        return
    for line in steps.version_lines(workspace, settings):
        say(line)


def _version(text: str) -> int:
    number = text.removeprefix("v")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        raise InputError(
            expected="the number of a version, such as 2 or v2",
            found=f"'{text}'",
            where="graftline promote",
            remedy="graftline models lists the versions.",
        )
    return int(number)


@app.command()
def promote(
    version: Annotated[
        int,
        typer.Argument(help="A version that `graftline models` lists: 2, or v2.", parser=_version, metavar="VERSION"),
    ],
    workspace: Workspace = CURRENT,
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "promoted by hand",
) -> None:
    """Make VERSION the champion and hand it off."""
    from pipeline import params
    from pipeline.release import steps

    settings = params.load(workspace)
    say(steps.promote_version(workspace, settings, version, reason=reason))
    _tell_in_report(workspace, settings)


@app.command()
def rollback(
    workspace: Workspace = CURRENT,
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "rolled back by hand",
) -> None:
    """Bring the previous champion back, in the registry and in the hand-off folder."""
    from pipeline import params
    from pipeline.release import steps

    settings = params.load(workspace)
    say(steps.rollback(workspace, settings, reason=reason))
    _tell_in_report(workspace, settings)


def _tell_in_report(workspace: Path, settings: Settings) -> None:
    """The page of the last run says who is champion since."""
    from pipeline.reporting import report

    if not (workspace / report.PATH).is_file():
        return
    try:
        write_report(workspace, settings)
    except Exception as error:  # noqa: BLE001  # whatever a page may stumble over: the decision stands
        say(f"The report was not written anew: {type(error).__name__}: {error}")


@app.command()
def history(workspace: Workspace = CURRENT, as_json: AsJson = False) -> None:
    """Who was champion when, and why: every promotion, hold and rollback, oldest first."""
    from pipeline import params
    from pipeline.release.history import History

    params.load(workspace)  # no champion yet is one thing, no workspace another
    decisions = History(workspace)
    if as_json:
        for entry in decisions.entries:
            say_json(entry.model_dump(mode="json"))
        return
    for line in decisions.lines() or ["No champion yet: graftline run makes the first one."]:
        say(line)
