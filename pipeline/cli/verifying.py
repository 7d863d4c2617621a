"""``verify``: is this bundle what was handed off, to the byte, and by whom?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import handed
from pipeline.cli.app import CURRENT, Workspace, app, say
from pipeline.core.errors import BundleError


@app.command()
def verify(
    bundle: Annotated[str, typer.Argument(help="A bundle folder, `champion`, `previous` or `v3`.")],
    workspace: Workspace = CURRENT,
    key: Annotated[Path | None, typer.Option(help=handed.KEY_HELP)] = None,
) -> None:
    """Prove by its signature that a bundle is what was handed off. Exits 2 if it is not; nothing of it is loaded."""
    place = handed.find(bundle, workspace, "verify")
    if not place.is_dir():
        raise BundleError(
            expected="a bundle folder: the signature is over all of its files",
            found="a single file",
            where=str(place),
            remedy="Give the folder that was handed off, such as handoff/current.",
        )
    signed = handed.prove(place, workspace, key)
    say(f"{bundle}: {signed.files} files as signed by key {signed.fingerprint}")
