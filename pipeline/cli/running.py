"""``run``, ``stage`` and ``serve``: the retraining flow, one stage of it, and the flow on a schedule."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import CURRENT, HELD_STRICT, Workspace, app, say
from pipeline.core.interrupts import Terminated, interrupted_by_sigterm

if TYPE_CHECKING:
    from pipeline.release.decide import Outcome


@app.command()
def run(
    workspace: Workspace = CURRENT,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Set a value in params.yaml first (kept, as `dvc exp run -S`)."
        ),
    ] = None,
    inline: Annotated[bool, typer.Option("--inline", help="The same steps with no Prefect at all.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 3 when the verdict is a hold, also of an earlier run.")
    ] = False,
) -> None:
    """Retrain: bring every stage up to date, judge the result, promote or hold it, hand it off."""
    from pipeline.release.history import History

    try:
        with interrupted_by_sigterm():
            outcome = _runner(inline)(workspace, emit=say, assignments=assignments or [])
    except KeyboardInterrupt as interrupt:
        say("Interrupted: stages that had ended are kept; the next run goes on from there.")
        if isinstance(interrupt, Terminated):
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise
    for line in _where(workspace, outcome):
        say(line)
    if strict and outcome.failed and not History(workspace).is_overruled(outcome.model, outcome.version):
        raise typer.Exit(HELD_STRICT)


def _where(workspace: Path, outcome: Outcome) -> list[str]:
    """Where things are, and what to type next."""
    from pipeline.catalog import CATALOG
    from pipeline.reporting.report import PATH

    handoff = workspace / outcome.handoff if outcome.handoff else None
    command = "graftline" if shutil.which("graftline") else os.path.relpath(sys.argv[0])
    option = "" if workspace == Path.cwd() else f" -C {shlex.quote(os.path.relpath(workspace))}"
    try_it = f"{command} predict {'champion' if outcome.champion else 'challenger'} IMAGES…{option}"
    return [
        "",
        f"  model   {os.path.relpath((handoff or workspace / 'bundle') / Path(CATALOG['model'].path).name)}",
        f"  bundle  {os.path.relpath(handoff or workspace / 'bundle')}",
        f"  report  {os.path.relpath(workspace / PATH)}",
        f"  next    {try_it}",
        f"          {command} history{option}   {command} status{option}   {command} --help",
    ]


def _runner(inline: bool) -> Callable[..., Outcome]:
    """Plain calls, or the Prefect flow."""
    if inline:
        from flows import inline as calls

        return calls.run
    from flows import launch

    return launch.run


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="ingest, validate, backbone, features, train, export, evaluate, …")],
    workspace: Workspace = CURRENT,
) -> None:
    """Run one stage here and now; this is what dvc.yaml calls. (`dvc repro NAME` runs it only if it is stale.)"""
    from pipeline import params
    from pipeline.core.errors import ParamsError
    from pipeline.graph import child, dvcfile, executor
    from pipeline.graph.table import BY_NAME

    if name not in BY_NAME:
        raise ParamsError(
            expected=f"a stage: {', '.join(BY_NAME)}",
            found=f"'{name}'",
            where="graftline stage",
            remedy="Name one of them.",
        )
    if "DVC_STAGE" in os.environ and not child.is_child():  # a plain `dvc repro`
        dvcfile.require_tracked(workspace, BY_NAME[name], params.load(workspace))
    child.end_with_parent()
    cost = executor.execute(workspace, name)
    if not child.is_child():
        say(f"{name}: {cost.line}  ({cost.seconds:.1f} s)")


@app.command()
def serve(
    workspace: Workspace = CURRENT,
    cron: Annotated[str, typer.Option(help="When to retrain, as cron writes it.")] = "0 3 * * *",
) -> None:
    """Schedule the retraining flow on this machine and stay to run it; Ctrl-C ends it."""
    from flows.deployments import serve as serve_flow

    serve_flow(workspace, cron)
