"""How the command's process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, os, sys, threading, time
from pipeline.cli import program
class Slow:
    def __del__(self, write=os.write):
        write(1, b"taken apart ")
kept = Slow()
{before}
def main():
    {main}
program.main = main
program.program()
"""


def ended(main: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(main=main, before=before)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("main", "code"),
    [("pass", 0), ("sys.exit()", 0), ("sys.exit(0)", 0), ("sys.exit(2)", 2), ("raise SystemExit(True)", 1)],
)
def test_it_ends_with_the_code_of_the_command(main: str, code: int) -> None:
    """And nothing that was imported is taken apart before."""
    assert (code, "", "") == (lambda it: (it.returncode, it.stdout, it.stderr))(ended(main))


def test_what_was_printed_is_there() -> None:
    """Although nobody has flushed it."""
    result = ended("sys.stdout.write('out'); sys.stderr.write('err')")
    assert ("out", "err") == (result.stdout, result.stderr)


def test_threads_and_what_is_registered_are_waited_for() -> None:
    """A thread that still works, then what is to be done at exit, in the usual order."""
    thread = "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()"
    result = ended(f"atexit.register(print, 'first'); atexit.register(print, 'second'); {thread}; sys.exit(3)")
    assert (3, "thread\nsecond\nfirst\n") == (result.returncode, result.stdout)


def test_what_was_registered_before_is_done() -> None:
    """By a tool that watches programs, before the command was so much as imported."""
    result = ended("sys.exit(2)", before="atexit.register(print, 'watched')")
    assert (2, "watched\n") == (result.returncode, result.stdout)


def test_what_logging_holds_back_is_written() -> None:
    """A handler that collects lines hands them on when logging is shut down."""
    import_it = "import logging, logging.handlers"
    logs = "logging.StreamHandler(sys.stdout)"
    log = f"logging.getLogger().addHandler(logging.handlers.MemoryHandler(9, target={logs})); logging.warning('held')"
    assert "held\n" == ended(log, before=import_it).stdout


@pytest.mark.parametrize(
    ("closed", "code"), [("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", 120), ("sys.stdout.close()", 0)]
)
def test_output_that_cannot_be_written_ends_as_python_ends_it(closed: str, code: int) -> None:
    """With its own words for it, and none of ours."""
    result = ended(f"sys.stdout.write('out'); {closed}")
    assert code == result.returncode
    assert "program" not in result.stderr


def test_a_message_as_the_code_is_told() -> None:
    """As Python does, with code 1."""
    result = ended("sys.exit('no such thing')")
    assert (1, "no such thing\n") == (result.returncode, result.stderr)


def test_an_error_that_nobody_expected_is_told() -> None:
    """With its traceback; an interrupt ends the process by its signal."""
    result = ended("raise ZeroDivisionError('why')")
    assert 1 == result.returncode
    assert result.stderr.endswith("ZeroDivisionError: why\n")
    assert -signal.SIGINT == ended("raise KeyboardInterrupt").returncode
