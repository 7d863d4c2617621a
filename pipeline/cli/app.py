"""The application and its exit codes: 0 done, 2 the user's input, 1 our fault."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

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

HELD_STRICT = 3
"""Exit code of ``run --strict`` when the verdict is a hold."""


def say(text: str) -> None:
    """One line to standard output, at once: output is often a pipe into a log."""
    print(text, flush=True)


def main() -> None:
    """Entry point: every expected error becomes one message; an unexpected one leaves its traceback in a file."""
    telemetry.off()
    try:
        app()
    except GraftlineError as error:
        sys.stderr.write(f"graftline: {error}\n")
        sys.exit(error.exit_code)
    except PermissionError as error:
        sys.stderr.write(f"graftline: {_forbidden(error)}\n")
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader (head, less) has gone: not an error
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last resort, and it tells
        if (no_room := disk.full(error, Path(), doing="this command")) is not None:
            sys.stderr.write(f"graftline: {no_room}\n")
            sys.exit(no_room.exit_code)
        sys.stderr.write(f"graftline: this is our fault, not yours. {_kept_traceback()}\n")
        sys.exit(1)


def _forbidden(error: PermissionError) -> WorkspaceError:
    return WorkspaceError(
        expected="to be allowed to read and write the workspace and the data",
        found=f"'{error.strerror}'",
        where=str(error.filename),
        remedy="Change its owner or mode, or work on a copy of your own.",
    )


def _kept_traceback() -> str:
    told = redact(traceback.format_exc())
    with tempfile.NamedTemporaryFile("w", prefix="graftline-", suffix=".log", delete=False) as file:
        file.write(told)
    last = told.strip().splitlines()[-1]
    return f"{last}\n  the whole traceback is in {file.name}; please report it."
