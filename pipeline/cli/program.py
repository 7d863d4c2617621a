"""The installed command: :func:`pipeline.cli.main` in a process of its own, which ends as soon as it is done.

An interpreter that ends takes apart what it has imported, object by object: a second for torch, in each of a run's
stages. The operating system does that at once.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import NoReturn

from pipeline.cli import main


def program() -> NoReturn:
    """Run the command and end this process with its exit code.

    Threads are waited for as ever, and what is registered to be done at exit from here on is done before. Somebody who
    traces the process (a debugger, coverage) has registered something earlier: then it ends in the usual way.
    """
    code: str | int | None = 0

    def end() -> None:
        if isinstance(code, str):
            return  # Python says it at the very end
        logging.shutdown()  # registered when logging was imported, before this
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code or 0)

    if sys.gettrace() is None:
        atexit.register(end)  # the first to be registered is the last to be called
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # Python tells of it, and by a signal where it was one
        atexit.unregister(end)
        raise
    sys.exit(code)
