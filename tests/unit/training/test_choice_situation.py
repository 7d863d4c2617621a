"""Which strategies are tried follows from labels, source and distance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core import plugins
from pipeline.evaluation.domains import DomainReport
from pipeline.training.choice import situation
from pipeline.training.choice.situation import Situation
from pipeline.training.strategies.auto import NOT_ON_TRIAL, PACKAGE


def a_situation(**fields: Any) -> Situation:
    plain = {"labels": "none", "per_class": 0, "source": True, "source_misleads": False, "nearness": "near"}
    return Situation(**{**plain, **fields})


def test_every_candidate_is_a_strategy_that_may_be_tried() -> None:
    """No table names a file that is not there, or one that has another aim."""
    tables = [situation.WITHOUT_LABELS, situation.WITHOUT_SOURCE, situation.FEW_LABELS, situation.WITH_A_SOURCE]
    named = {name for table in tables for names in table.values() for name in names}
    named |= {*situation.MORE_LABELS, *situation.MANY_LABELS}
    assert named <= set(plugins.names(PACKAGE)) - set(NOT_ON_TRIAL)


@pytest.mark.parametrize("labels", ["none", "few"])
def test_a_farther_source_adds_candidates(labels: str) -> None:
    """Without labels or with few, what is tried for a near source is tried for a farther one too, and more."""
    near, middle = (set(a_situation(labels=labels, nearness=nearness).candidates) for nearness in ("near", "middle"))
    assert near < middle


def test_a_far_or_misleading_source_is_left_out_once_there_are_labels() -> None:
    """Labelled target images make a source that is far, or that contradicts them, superfluous."""
    alone = set(a_situation(labels="few", source=False, nearness="far").candidates)
    assert alone == set(a_situation(labels="few", nearness="far").candidates)
    misled = a_situation(labels="few", nearness="near", source_misleads=True).candidates
    assert not {"standardise", "linear_ot", "mcc", "multitask"} & set(misled)


def test_a_checkpoint_alone_is_adapted() -> None:
    """With neither labels nor source, only what needs neither is tried."""
    assert a_situation(source=False, nearness="middle").candidates == ("adabn", "tent", "shot")


def test_sentences() -> None:
    """What there is, in words."""
    assert a_situation().sentence == "The target has no labelled image; there is a source (near)."
    misled = a_situation(labels="few", per_class=5, source_misleads=True).sentence
    assert misled == (
        "The target has 5 labelled images of its rarest class; there is a source whose labels contradict the target's."
    )


@pytest.mark.parametrize(("nearness", "expected"), [(None, "middle"), ("far", "far")])
def test_an_unmeasured_distance_counts_as_middle(a_task: Any, nearness: Any, expected: str) -> None:
    """Where there are too few images to measure, neither the best nor the worst is assumed."""
    task = replace(a_task, domains=DomainReport(nearness=nearness))
    assert Situation.of(task).nearness == expected
    assert Situation.of(task).per_class == 16
