"""Phases as data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.phases import discriminative

BLOCKS = ("stem", "one", "two", "three")


def test_rates_fall_towards_the_input() -> None:
    """Each block's rate is ``decay`` times its successor's; frozen blocks have none."""
    rates = discriminative(BLOCKS, head=1.0, last=0.5, decay=0.5, frozen=1)
    assert {"stem": None, "one": 0.125, "two": 0.25, "three": 0.5, "head": 1.0} == rates


@given(st.integers(0, 4), st.floats(0.1, 1.0))
def test_every_group_is_named_whatever_is_frozen(frozen: int, decay: float) -> None:
    """The engine's demand holds by construction, and freezing goes from the input on."""
    rates = discriminative(BLOCKS, head=1.0, last=1.0, decay=decay, frozen=frozen)
    assert [*BLOCKS, "head"] == list(rates)
    assert [None] * frozen == [rate for rate in rates.values() if rate is None] == list(rates.values())[:frozen]
