"""``strategies``: what ``train.strategy.name`` may be, and what data each needs."""

from __future__ import annotations

from pipeline.cli.app import app, say


@app.command()
def strategies() -> None:
    """List the transfer strategies: one line each, and the data each needs."""
    from pipeline.core import plugins
    from pipeline.stages.train import STRATEGIES
    from pipeline.training.needs import NEEDS, in_brief

    rows = [
        (name, in_brief(strategy.NEEDS), strategy.SUMMARY)
        for name in plugins.names(STRATEGIES)
        for strategy in [plugins.load(STRATEGIES, name)]
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, needs, summary in [("strategy", "needs", "what it does"), *rows]:
        say(f"{name:<{widths[0]}}  {needs:<{widths[1]}}  {summary}")
    say("\nWhere the needs are:")
    for need in NEEDS.values():
        if need.brief:
            say(f"  {need.brief}: {need.phrase}")
    say("\nChoose one: graftline run --set train.strategy.name=NAME")
