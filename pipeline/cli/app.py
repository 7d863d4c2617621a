"""The application and its exit codes: 0 done, 2 the user's input, 1 our fault."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.core import disk, telemetry
from pipeline.core.errors import GraftlineError, WorkspaceError
from pipeline.core.redaction import redact

app = typer.Typer(
    name="graftline",
    help="Retrains image classifiers by transfer learning: validated, gated, versioned, handed off as ONNX.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Workspace = Annotated[
    Path,
    typer.Option(
        "-C", "--workspace", help="The workspace, if not the current folder.", file_okay=False, resolve_path=True
    ),
]

CURRENT = Path(".")

LONGEST_SHOWN = 200
"""Characters of a path in a message."""

HELD_STRICT = 3
"""Exit code of ``run --strict`` when the verdict is a hold."""


BUILT_ON = ("torch", "torchvision", "onnx", "onnxruntime", "mlflow", "prefect", "dvc", "great-expectations")
"""Packages whose versions a report of a fault should name."""


def _version(wanted: bool) -> None:
    if wanted:
        packages = ", ".join(f"{name} {_version_of(name)}" for name in BUILT_ON)
        say(f"graftline {__version__}\n{packages}\nPython {platform.python_version()}, {platform.platform()}")
        raise typer.Exit


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


@app.callback()
def _options(
    version: Annotated[  # acted on before anything else is read
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show versions and exit."),
    ] = False,
) -> None: ...


def say(text: str) -> None:
    """One line to standard output, at once: output is often a pipe into a log."""
    print(text, flush=True)


def say_json(value: object) -> None:
    """One object on a line of its own, letters beyond ASCII as they are."""
    say(json.dumps(value, ensure_ascii=False))


def main() -> None:
    """Entry point: every expected error becomes one message; an unexpected one leaves its traceback in a file."""
    telemetry.off()
    try:
        app()
    except GraftlineError as error:
        sys.stderr.write(f"graftline: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader (head, less) has gone: not an error
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last resort, and it tells
        if (unusable := _unusable_path(error)) is not None:
            sys.stderr.write(f"graftline: {unusable}\n")
            sys.exit(unusable.exit_code)
        if (no_room := disk.full(error, Path(), doing="this command")) is not None:
            sys.stderr.write(f"graftline: {no_room}\n")
            sys.exit(no_room.exit_code)
        sys.stderr.write(f"graftline: this is our fault, not yours. {_kept_traceback()}\n")
        sys.exit(1)


_LOOP = "Symlink loop from "
_ALLOWED = (
    "to be allowed to read and write the workspace and the data",
    "Change its owner or mode, or work on a copy of your own.",
)
_UNUSABLE = {
    errno.EACCES: _ALLOWED,
    errno.EPERM: _ALLOWED,
    errno.EROFS: (
        "a workspace that can be written to",
        "Work on a copy elsewhere: this file system is mounted read-only. (history, models and doctor only read.)",
    ),
    errno.ENAMETOOLONG: ("a path that the file system can hold", "Choose a shorter one, nearer to the root."),
    errno.ELOOP: ("a path that leads somewhere", "Replace the symbolic link that leads back to itself."),
}
"""What a path can be that is nobody's fault but its own: what was expected, and what to do."""


def _unusable_path(error: Exception) -> WorkspaceError | None:
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # pathlib's own word for ELOOP until 3.12
        error = OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(error).removeprefix(_LOOP).strip("'"))
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE:
        return None
    expected, remedy = _UNUSABLE[error.errno]
    where = str(error.filename)
    return WorkspaceError(
        expected=expected,
        found=f"'{error.strerror}'",
        where=where if len(where) <= LONGEST_SHOWN else f"{where[:LONGEST_SHOWN]}… ({len(where)} characters)",
        remedy=remedy,
    )


def _kept_traceback() -> str:
    told = redact(traceback.format_exc())
    with tempfile.NamedTemporaryFile("w", prefix="graftline-", suffix=".log", delete=False) as file:
        file.write(told)
    last = told.strip().splitlines()[-1]
    return f"{last}\n  the whole traceback is in {file.name}; please report it."
