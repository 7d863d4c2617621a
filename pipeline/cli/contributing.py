"""``contribute``: what this workspace may send to a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import CURRENT, Workspace, app, say


@app.command()
def contribute(
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write, e.g. site.npz.", dir_okay=False)],
    workspace: Workspace = CURRENT,
    min_count: Annotated[
        int, typer.Option("--min-count", min=2, help="Leave out classes with fewer labelled images than this.")
    ] = 5,
) -> None:
    """Write sums over this workspace's labelled images, for another workspace's strategy `federated`.

    Counts and sums of features per class and products of features leave; no image, no label of an image, no feature of
    an image. But sums can be subtracted: two contributions that differ by one image reveal its features and label, so
    send one, or several that differ by many images.
    """
    from flows import sequence
    from flows.inline import Calls
    from pipeline import params
    from pipeline.catalog import CATALOG
    from pipeline.core.context import Context
    from pipeline.training.classifiers.federation import Statistics
    from pipeline.training.task import make_task

    sequence.bring_up_to_date(Calls(workspace, say), last="features")
    settings = params.load(workspace)
    names = ("backbone", "label_space", "source_manifest", "target_manifest", "source_features", "target_features")
    inputs = {name: CATALOG[name].load(workspace) for name in names}
    context = Context(workspace, seed=settings.seed)
    task = make_task(**inputs, options=settings.train, context=context)
    statistics = Statistics.of(task, min_count)
    statistics.save(output)
    say(f"{output}: {statistics.told}")
