"""``explain-domains``: how far apart the domains are, in a table and in sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli.app import CURRENT, Workspace, app, say

if TYPE_CHECKING:
    from pipeline.evaluation.domains import Distance, DomainReport


@app.command(name="explain-domains")
def explain_domains(workspace: Workspace = CURRENT) -> None:
    """Measure how far the target is from the source and from the last run's; fit no strategy and release nothing.

    What the distances need is made first, if it is due: a backbone is pretrained or fetched, features are computed.
    """
    from flows import sequence
    from flows.inline import Calls
    from pipeline import params
    from pipeline.catalog import CATALOG
    from pipeline.reporting.report import write

    sequence.bring_up_to_date(Calls(workspace, say), last="domains")
    for name in ("domains", "drift"):
        for line in _lines(CATALOG[name].load(workspace)):
            say(line)
    page = write(workspace, params.load(workspace))
    say(f"\n  report  {os.path.relpath(page)}#domains")


def _lines(report: DomainReport) -> Iterator[str]:
    yield f"\n{report.source} → {report.target}" + (f": {report.nearness}" if report.nearness else "")
    if report.distances:
        from pipeline.reporting.domains import range_note

        yield f"  {'':<18}{'value':>9}  {'range':<20}{'null level':>10}"
        yield from map(_row, report.distances)
        yield f"  {range_note(report.model_dump())}"
    yield from (f"  {sentence}" for sentence in _sentences(report))


def _row(row: Distance) -> str:
    """``MMD                   0.149  0.141 to 0.159         −0.000  (−0.002 to 0.003)``"""
    from pipeline.reporting.domains import distance_row

    shown = distance_row(row.model_dump())
    return f"  {row.name:<18}{shown.value:>9}  {shown.interval:<20}{shown.null:>10}  ({shown.null_interval})"


def _sentences(report: DomainReport) -> list[str]:
    return report.sentences + ([report.prior_shift.sentence] if report.prior_shift else [])
