"""Judging networks without labels: blends, information, balance, ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.choice import validators
from pipeline.training.choice.contest import labels_to_settle, tie_sentence
from pipeline.training.choice.validators import Scores

CPU = torch.device("cpu")


def test_partners_are_named_otherwise_and_drawn_alike_for_equal_seeds() -> None:
    """Each image is paired with one of another predicted class; the same seed draws the same pairs."""
    predicted = np.random.default_rng(0).integers(0, 3, 200)
    rows, others = validators.partners(predicted, seed=5, count=50)
    assert len(rows) == 50
    assert (predicted[rows] != predicted[others]).all()
    again = validators.partners(predicted, seed=5, count=50)
    assert np.array_equal(rows, again[0])
    assert np.array_equal(others, again[1])


def test_a_network_that_calls_everything_alike_has_no_blend_to_keep(a_task: Any) -> None:
    """Nothing can be paired, and its score is the lowest there is."""
    network = a_task.pretrained_network()
    answers = np.tile([1.0, 0.0, 0.0], (len(a_task.target_images), 1))
    scores = validators.judge(network, a_task.target_images, answers, np.full(3, 1 / 3), seed=0, device=CPU)
    assert (scores.mixval, scores.blends) == (0.0, 0)
    assert scores.balance == pytest.approx(1 / 3)


def test_a_network_that_knows_the_bars_keeps_more_blends_than_one_that_guesses(a_task: Any) -> None:
    """MixVal tells a trained head from a random one without a label."""
    from pipeline.training.choice import answering
    from pipeline.training.classifiers import heads

    features = a_task.target_features.of(a_task.target.split("train"))
    found = []
    for is_trained in (True, False):
        network = a_task.pretrained_network()
        if is_trained:
            heads.starting_head(a_task, network)
        else:
            network.set_head(torch.randn(3, 256, generator=torch.Generator().manual_seed(1)), torch.zeros(3))
        logits = answering.logits(network, a_task.target_images, features, a_task, CPU)
        answers = answering.probabilities(logits)
        judged = validators.judge(network, a_task.target_images, answers, np.full(3, 1 / 3), seed=0, device=CPU)
        found.append(judged.information)
    assert found[0] > found[1]


def test_information_is_highest_for_sure_and_various_answers() -> None:
    """log C for one-hot answers over all classes, zero for equal ones."""
    assert validators.information(np.eye(4)) == pytest.approx(np.log(4))
    assert validators.information(np.full((5, 4), 0.25)) == pytest.approx(0.0)
    assert validators.information(np.tile([1.0, 0, 0, 0], (5, 1))) == pytest.approx(0.0)


def test_rank_sums_share_ranks_between_ties() -> None:
    """The best in all three has the lowest sum; equals have equal sums."""
    good, bad = Scores(0.9, 1.0, 1.0, 9, 10), Scores(0.5, 0.5, 0.5, 5, 10)
    sums = validators.rank_sums([bad, good, good])
    assert sums.tolist() == [9.0, 4.5, 4.5]


def test_labels_to_settle_follow_the_bootstrap() -> None:
    """With that many images, the mean difference stands 1.96 standard errors from zero."""
    count = labels_to_settle(0.2, 0.05)
    assert count is not None
    error = np.sqrt((0.2 - 0.05**2) / count)
    assert 1.96 * error == pytest.approx(0.05, rel=0.01)
    assert labels_to_settle(0.0, 0.1) is None


def test_a_tie_offers_labels() -> None:
    """The sentence has the share of differing answers and a number of images."""
    told = tie_sentence("mcc", "probe", 0.2, 0.05)
    assert told.startswith("mcc and probe answer 20% of the target's images differently; labelling about 304 random")
    assert "no label could tell them apart" in tie_sentence("a", "b", 0.0, 0.0)
