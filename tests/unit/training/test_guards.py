"""Guards that need no target label."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.training.adaptation.guards import (
    class_balance,
    did_not_rise,
    discriminator_is_fooled,
    expected_prior,
    is_known,
    source_is_retained,
    source_retention,
)

UNIFORM = np.full(4, 0.25)


def answers(*counts: int) -> np.ndarray:
    """Probabilities whose top classes have these counts."""
    return np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]


def test_retention_is_the_share_of_what_was_known() -> None:
    """A source of which nothing was known cannot be forgotten."""
    assert pytest.approx(0.75) == source_retention(0.6, 0.8)
    assert source_retention(0.0, 0.0) == 1
    assert [True, False] == [source_is_retained(after, 0.9) for after in (0.75, 0.7)]


def test_answers_in_proportion_are_balanced() -> None:
    """As are those that are off by less than a factor of three."""
    balance = class_balance(answers(40, 10, 30, 20), UNIFORM)
    assert balance.holds
    assert [0.4, 0.1, 0.3, 0.2] == balance.shares.tolist()
    assert balance.sentence(["a", "b", "c", "d"]) == "Each class is answered about as often as expected."


def test_a_collapsed_network_is_named_with_its_worst_class() -> None:
    """Classes that are never answered, and one that always is."""
    balance = class_balance(answers(100, 0, 0, 0), np.array([0.2, 0.3, 0.3, 0.2]))
    assert (0, 1, 2, 3) == balance.broken
    assert balance.sentence(["a", "b", "c", "d"]) == (
        "4 of 4 classes are answered three times too often or too rarely, or worse; most of all 'b': 0.0% of all "
        "answers where 30.0% were expected."
    )


def test_few_images_prove_nothing() -> None:
    """With eight images of four classes chance alone leaves one out; with 80 it does not."""
    assert class_balance(answers(4, 2, 2, 0), UNIFORM).holds
    assert (3,) == class_balance(answers(40, 20, 20, 0), UNIFORM).broken


def test_no_answers_are_balanced() -> None:
    """There is nothing to judge."""
    assert class_balance(np.zeros((0, 4)), UNIFORM).holds


def test_the_prior_comes_from_labels_but_rules_no_class_out() -> None:
    """(count + 1) / (n + classes); without a label it is uniform."""
    np.testing.assert_allclose([4 / 8, 2 / 8, 1 / 8, 1 / 8], expected_prior(np.array([0, 0, 0, 1]), 4))
    np.testing.assert_allclose(UNIFORM, expected_prior(np.array([], dtype=np.int64), 4))


def test_the_discriminator_must_be_wrong_at_times_in_the_second_half() -> None:
    """No epoch, no verdict."""
    assert discriminator_is_fooled([])
    assert discriminator_is_fooled([1.0, 0.9])
    assert not discriminator_is_fooled([0.5, 0.6, 1.0, 0.999])


def test_a_loss_may_waver_but_not_rise() -> None:
    """Within the margin, and finite."""
    assert did_not_rise([], 0.1)
    assert did_not_rise([0.5, 0.9, 0.55], 0.1)
    assert not did_not_rise([0.5, 0.4, 0.7], 0.1)
    assert not did_not_rise([0.5, math.nan, 0.4], 0.1)


def test_what_was_hardly_known_cannot_be_forgotten() -> None:
    """A fifth of the way from a constant answer to perfect ones is the least that tells anything."""
    even, mostly = np.array([0, 1] * 10), np.array([0] * 8 + [1] * 2)
    assert [False, True] == [is_known(accuracy, even) for accuracy in (0.55, 0.65)]
    assert [False, True] == [is_known(accuracy, mostly) for accuracy in (0.82, 0.9)]
