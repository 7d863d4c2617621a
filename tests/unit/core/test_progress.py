"""What people see of long work."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.core import progress


class Clock:
    """Stands for ``time``; moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delenv(progress.STREAM_VARIABLE, raising=False)
    return clock


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    return stream


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    return stream


def images(total: int = 3000) -> progress.Meter:
    return progress.Meter(what="features", unit="images", total=total)


def test_a_log_gets_a_line_now_and_then(clock: Clock, log: io.StringIO) -> None:
    """Every fifteen seconds, with the count, the whole and the rate."""
    meter = images()
    for _ in range(40):
        clock.now += 1
        meter.advance(50)
    meter.close()
    assert log.getvalue().splitlines() == [
        "  features  750/3,000 images · 50 images/s",
        "  features  1,500/3,000 images · 50 images/s",
    ]
    assert not log.closed


def test_short_work_shows_nothing(clock: Clock, terminal: Terminal) -> None:
    """Under two seconds; nothing is wiped either."""
    meter = images()
    clock.now += 1.9
    meter.advance(3000)
    meter.close()
    assert terminal.getvalue() == ""


def test_a_terminal_gets_a_bar_that_is_wiped(clock: Clock, terminal: Terminal) -> None:
    """From the second second on, ten times a second at most; the stage's own line takes its place."""
    meter = images(100)
    clock.now += 2.0
    meter.advance(25)
    clock.now += 0.05
    meter.advance(1)  # too soon to show
    clock.now += 1.95
    meter.advance(74)
    meter.close()
    bars = ["━" * 6 + "╌" * 18 + " features  25/100 images · 12 images/s"]
    bars += ["━" * 24 + " features  100/100 images · 25 images/s"]
    assert terminal.getvalue() == "".join(f"\r\x1b[K  {bar}" for bar in bars) + "\r\x1b[K"


def test_a_tenth_of_a_second_is_enough_for_the_next_bar(clock: Clock, terminal: Terminal) -> None:
    meter = images(100)
    clock.now += 3
    for _ in range(3):
        clock.now += 0.125
        meter.advance()
    assert terminal.getvalue().count("\r") == 3


def test_one_item_fills_the_bar(clock: Clock, terminal: Terminal) -> None:
    meter = images(1)
    clock.now += 4
    meter.advance()
    assert f"  {'━' * 24} features  1/1 images" in terminal.getvalue()


def test_nothing_to_do_is_no_error(clock: Clock, terminal: Terminal) -> None:
    """No items, and no time between the start and the first look."""
    meter = images(0)
    meter._show(clock.now)
    assert terminal.getvalue().endswith(" features  0/0 images")


def test_items_are_counted_as_they_are_taken(clock: Clock, log: io.StringIO) -> None:
    """An item counts when its work is done: when the next one is asked for."""
    taken = []
    for item in progress.track("abc", what="epochs", unit="epochs", total=3):
        taken.append(item)
        clock.now += 15
    assert taken == ["a", "b", "c"]
    assert log.getvalue().splitlines() == [f"  epochs  {count}/3 epochs · 15.0 s each" for count in (1, 2, 3)]


def test_a_bar_is_wiped_also_after_an_error(clock: Clock, terminal: Terminal) -> None:
    def work() -> None:
        for _ in progress.track("abc", what="epochs", unit="epochs", total=3):
            if terminal.getvalue():
                raise RuntimeError("diverged")
            clock.now += 15

    with pytest.raises(RuntimeError, match="diverged"):
        work()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_another_stream_may_be_named(
    clock: Clock, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose standard error is captured writes to what stands behind it, and adds to what is there."""
    (tmp_path / "tty").write_text("before\n")
    monkeypatch.setenv(progress.STREAM_VARIABLE, str(tmp_path / "tty"))
    meter = images()
    clock.now += 20
    meter.advance(1000)
    assert (tmp_path / "tty").read_text(encoding="utf-8") == "before\n  features  1,000/3,000 images · 50 images/s\n"
    meter.close()
    assert meter._stream.closed
    assert terminal.getvalue() == ""
