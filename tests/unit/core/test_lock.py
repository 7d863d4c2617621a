"""One run at a time in a workspace."""

import os
import subprocess
import sys
import textwrap

import pytest

from pipeline.core.errors import BusyError
from pipeline.core.lock import workspace_lock


def test_second_run_says_who_holds_the_workspace(tmp_path):
    """The one that has to wait names the pid, and gives up with the same sentence."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
            import pathlib, sys, time
            from pipeline.core.lock import workspace_lock
            with workspace_lock(pathlib.Path(sys.argv[1])):
                print("held", flush=True)
                time.sleep(60)
            """),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    said = []
    with pytest.raises(BusyError, match=f"pid {holder.pid}"), workspace_lock(tmp_path, wait_s=0.2, emit=said.append):
        pass
    assert f"pid {holder.pid}" in said[0]
    holder.kill()
    holder.wait()
    with workspace_lock(tmp_path, wait_s=5):  # a dead holder's lock is free at once
        assert f'"pid": {os.getpid()}' in (tmp_path / ".graftline/run.holder.json").read_text()
