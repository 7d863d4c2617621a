"""Gradual unfreezing as data: what each phase lets go, and L²-SP where it is asked for."""

from __future__ import annotations

import pytest

from pipeline.core import plugins
from pipeline.training.strategies.gradual_unfreeze import Params, phases

BLOCKS = ("stem", "stage1", "stage2")


def test_one_block_more_per_phase_from_the_head() -> None:
    """Frozen blocks have no rate; the last phase is the long one, with every block free."""
    found = phases(BLOCKS, Params(learning_rate=1.0, block_decay=0.5, epochs_per_block=2, epochs=6))
    assert ["from_stage2", "from_stage1", "from_stem"] == [phase.name for phase in found]
    assert [2, 2, 6] == [phase.epochs for phase in found]
    assert [
        {"stem": None, "stage1": None, "stage2": 1.0, "head": 1.0},
        {"stem": None, "stage1": 0.5, "stage2": 1.0, "head": 1.0},
        {"stem": 0.25, "stage1": 0.5, "stage2": 1.0, "head": 1.0},
    ] == [phase.learning_rates for phase in found]


@pytest.mark.parametrize("strategy", ["lp_ft", "full", "partial", "gradual_unfreeze", "soup"])
def test_l2_sp_is_off_unless_asked_for(strategy: str) -> None:
    """A pull of zero is the default of every fine-tuning strategy."""
    assert plugins.load("pipeline.training.strategies", strategy).Params().l2_sp == 0.0


def test_l2_sp_reaches_every_phase() -> None:
    """As a property of the phase."""
    assert {0.01} == {phase.l2_sp for phase in phases(BLOCKS, Params(l2_sp=0.01))}
