"""The local engine: what is around the processes is left as it was found, however they end."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scale_errors import breaks, interrupts, nothing

from pipeline.core.errors import ServiceError
from pipeline.scale.engines import local
from pipeline.scale.options import Scale

TOUCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What torch's agent takes over if it is let."""


@pytest.fixture
def handlers() -> Iterator[list[Any]]:
    """Of a process under ``nohup`` that does something of its own at SIGTERM."""
    before = [signal.getsignal(number) for number in TOUCHED]
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield [signal.getsignal(number) for number in TOUCHED]
    finally:
        for number, handler in zip(TOUCHED, before, strict=True):
            signal.signal(number, handler)


@pytest.fixture
def temporaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("work", "ends_in"), [(nothing, None), (breaks, ServiceError), (interrupts, KeyboardInterrupt)]
)
def test_signals_and_temporary_files_are_as_before(
    handlers: list[Any], temporaries: Path, monkeypatch: pytest.MonkeyPatch, work: Any, ends_in: type | None
) -> None:
    """Torch leaves handlers, a folder and tracebacks behind; Ctrl-C is what it is elsewhere, not a defect."""
    monkeypatch.setattr(local, "RESTARTS", 0)
    if ends_in is None:
        local.together(work, scale=Scale(), threads=1, backend="gloo")
    else:
        with pytest.raises(ends_in, match="a defect" if work is breaks else None):
            local.together(work, scale=Scale(), threads=1, backend="gloo")
    assert handlers == [signal.getsignal(number) for number in TOUCHED]
    assert [] == list(temporaries.iterdir())
    assert str(temporaries) == tempfile.gettempdir()


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in the background of a script ignores Ctrl-C, also while processes train."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with local._signals_as_before() as ending:
            assert [signal.SIGTERM] == ending
    finally:
        signal.signal(signal.SIGINT, before)
