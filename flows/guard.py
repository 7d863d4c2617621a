"""``python -m flows.guard COMMAND…``: run a command that must not outlive the process that started it.

Prefect stops its temporary server when the interpreter exits, which a SIGKILL does not let it do: the server then
stays for good. The guard is a second pair of eyes. The operating system gives an orphan another parent, so a changed
parent id means that ours is dead, however it died; within half a second the command is stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

LOOK_EVERY_S = 0.5
PATIENCE_S = 5.0


def main(command: list[str]) -> int:
    """Run ``command`` until it ends, its grandparent dies, or a SIGTERM comes; return its exit code."""
    parent = os.getppid()
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while os.getppid() == parent:
        try:
            return child.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            continue
    return _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    try:
        return child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
