"""The installed command: :func:`pipeline.cli.main` in a process of its own, which ends as soon as it is done.

An interpreter that ends takes apart what it has imported, object by object: a second for torch, in each of a run's
stages. The operating system does that at once.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

from pipeline.cli import main


def program() -> NoReturn:
    """Run the command and end this process with its exit code.

    Threads are waited for, what is registered to be done at exit is done, and what was printed is flushed, as ever. Not
    done is what Python promises nobody: ``__del__`` of what is still alive, and the flush of files left open.
    """
    code: str | int | None = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    if isinstance(code, str):
        sys.exit(code)  # a message, which Python prints
    threading._shutdown()  # type: ignore[attr-defined]  # both as Python itself calls them, in this order
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # Python tells of what could not be written
    os._exit(code or 0)


if __name__ == "__main__":
    program()
