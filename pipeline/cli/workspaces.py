"""``init``, ``status``, ``doctor``, ``render`` and ``report``: the workspace and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import CURRENT, Workspace, app, say, say_json

if TYPE_CHECKING:
    from pipeline.params import Settings


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The workspace to make.")],
    target: Annotated[str | None, typer.Option(help="Your images: a folder, or a CSV or Parquet table.")] = None,
    source: Annotated[str | None, typer.Option(help="A labelled source domain, likewise.")] = None,
    preset: Annotated[str | None, typer.Option("--from", metavar="NAME", help="Start from: digits, photos.")] = None,
    version_data: Annotated[
        bool, typer.Option("--version-data", help="Put the images under DVC (copies them into its cache).")
    ] = False,
) -> None:
    """Make a workspace: git and DVC initialised, params.yaml with comments and a schema, dvc.yaml, prefect.yaml."""
    from pipeline import workspace

    for line in workspace.create(folder, target=target, source=source, preset=preset, version_data=version_data):
        say(line)


@app.command()
def status(
    workspace: Workspace = CURRENT,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """What is stale and why, who is champion, and what to type next."""
    from pipeline.status import status_of

    found = status_of(workspace)
    if as_json:
        say_json(found.record)
        return
    for line in found.lines:
        say(line)


@app.command()
def doctor(workspace: Workspace = CURRENT) -> None:
    """Check the machine, the images (by their names) and the configuration; exits 2 if something must be mended."""
    from pipeline import doctor as checks

    findings = checks.examine(workspace)
    for finding in findings:
        say(finding.line)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(2)


@app.command()
def render(
    workspace: Workspace = CURRENT,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 2 if dvc.yaml is out of step.")] = False,
) -> None:
    """Bring dvc.yaml in step with params.yaml and the installed code; renew params.schema.json where there is one."""
    from pipeline import params
    from pipeline.core.errors import WorkspaceError
    from pipeline.graph import dvcfile
    from pipeline.release.pin import ensure_pins

    settings = params.load(workspace)
    if check and not dvcfile.in_step(workspace, settings):
        raise WorkspaceError(
            expected="dvc.yaml in step with the stage table and params.yaml",
            found="a difference",
            where=str(workspace / dvcfile.FILE),
            remedy="graftline render, then commit dvc.yaml.",
        )
    changed = not check and dvcfile.write(workspace, settings)
    say("dvc.yaml rendered" if changed else "dvc.yaml is in step")
    if check:
        return
    ensure_pins(workspace)
    if (workspace / params.SCHEMA_FILE).is_file() and params.write_schema(workspace):
        say(f"{params.SCHEMA_FILE} rendered")


@app.command()
def report(workspace: Workspace = CURRENT) -> None:
    """Write report/index.html from what the stages left (after `dvc repro`, say)."""
    from pipeline import params
    from pipeline.catalog import CATALOG
    from pipeline.core.errors import WorkspaceError

    settings, first = params.load(workspace), CATALOG["validation"].path
    if not (workspace / first).is_file():
        raise WorkspaceError(
            expected="what the stages of a run write",
            found=f"no {first}",
            where=str(workspace),
            remedy="graftline run (or dvc repro), which writes the report too.",
        )
    say(f"report: {write_report(workspace, settings)}")


def write_report(workspace: Path, settings: Settings) -> Path:
    """The page of the last run, headed by what was decided on it."""
    from pipeline.release import decide
    from pipeline.reporting import report

    decided = decide.decision(workspace, settings.model)
    return report.write(workspace, settings, decided.action if decided else None)
