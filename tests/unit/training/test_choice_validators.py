"""Judging networks without labels: blends, information, balance, ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.choice import validators, without_labels
from pipeline.training.choice.contest import Contender, labels_to_settle, tie_sentence
from pipeline.training.choice.pairing import Paired
from pipeline.training.choice.validators import Scores

CPU = torch.device("cpu")

APART = (np.arange(20), np.arange(20, 40))
"""Blends of which no two share an image."""


def test_pairs_are_the_same_for_all_networks() -> None:
    """They depend on the seed and the number of images alone, and no image is blended with itself."""
    stronger, weaker = validators.pairs(200, 50, seed=5)
    assert len(stronger) == len(weaker) == 50
    assert (stronger != weaker).all()
    again = validators.pairs(200, 50, seed=5)
    assert np.array_equal(stronger, again[0])
    assert np.array_equal(weaker, again[1])


def test_pairs_of_answers_tell_who_is_surely_better() -> None:
    """The exact test, and not the width of a bootstrap, says what is sure; more comparisons ask for more."""
    few = Paired(fixed=4, broken=0, images=30)
    assert few.interval(seed=0).low > 0
    assert not few.is_sure()
    many = Paired(fixed=9, broken=0, images=30)
    assert many.is_sure()
    assert not many.is_sure(comparisons=20)
    assert Paired(fixed=0, broken=9, images=30).is_surely_worse()
    assert Paired.of(np.array([1, 1, 0], bool), np.array([1, 0], bool)) == Paired(1, 0, 2)
    assert Paired(0, 0, 0).told(0) == "+0.0% (-100.0% to +100.0%)"


def test_a_network_that_calls_everything_alike_has_no_blend_to_keep(a_task: Any) -> None:
    """Nothing can be paired, and its score is the lowest there is."""
    network = a_task.pretrained_network()
    answers = np.tile([1.0, 0.0, 0.0], (len(a_task.target_images), 1))
    judged = validators.judge(network, a_task.target_images, answers, np.full(3, 1 / 3), seed=0, device=CPU)
    assert (judged.mixval, judged.kept.sum()) == (0.0, 0)
    assert judged.balance == pytest.approx(1 / 3)


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
        found.append((judged.mixval, judged.information))
    trained, random = found
    assert trained[0] > random[0]
    assert trained[1] > random[1]


def test_information_is_highest_for_sure_and_various_answers() -> None:
    """log C for one-hot answers over all classes, zero for equal ones."""
    assert validators.information(np.eye(4)) == pytest.approx(np.log(4))
    assert validators.information(np.full((5, 4), 0.25)) == pytest.approx(0.0)
    assert validators.information(np.tile([1.0, 0, 0, 0], (5, 1))) == pytest.approx(0.0)


def test_rank_sums_share_ranks_between_ties() -> None:
    """The best in all columns has the lowest sum; equals have equal sums."""
    assert validators.rank_sums([0.5, 0.9, 0.9], [0.5, 1.0, 1.0]).tolist() == [6.0, 3.0, 3.0]


def test_labels_to_settle_have_power() -> None:
    """With that many images the mean difference stands 1.96 + 0.84 standard errors from zero."""
    count = labels_to_settle(0.2, 0.05)
    assert count is not None
    error = np.sqrt((0.2 - 0.05**2) / count)
    assert 2.8 * error == pytest.approx(0.05, rel=0.01)
    assert labels_to_settle(0.0, 0.1) is None


def test_a_tie_offers_labels() -> None:
    """The sentence has the share of differing answers, the gap it supposes, and a number of images."""
    told = tie_sentence("mcc", "probe", 0.2, 0.05)
    assert told == (
        "mcc and probe answer 20% of the target's images differently; if they are 5.0 points apart, "
        "labelling about 620 random ones would show it four times in five."
    )
    assert "no label could tell them apart" in tie_sentence("a", "b", 0.0)


def test_a_baseline_that_calls_everything_alike_is_not_the_surer_one() -> None:
    """It has no doubt and no information; whoever tells images apart passes the guard against it."""
    kept = np.ones(10, dtype=bool)
    collapsed, adapted = Contender("probe"), Contender("dann")
    collapsed.scores = Scores(mixval=0.06, information=0.3, balance=0.2, kept=~kept, pairs=APART)
    adapted.scores = Scores(mixval=0.44, information=2.1, balance=0.97, kept=kept, pairs=APART)
    assert without_labels._is_surer(adapted, collapsed)
    assert not without_labels._is_surer(collapsed, adapted)


@pytest.mark.parametrize(
    ("images", "count", "expected"), [(200, 50, 50), (200, 450, 400), (3, 50, 3), (9, 500, 36), (1, 50, 0), (0, 5, 0)]
)
def test_few_images_are_blended_with_several_others(images: int, count: int, expected: int) -> None:
    """As many pairs as are wanted, as far as whole rings go; no image with itself, and no two of them twice."""
    stronger, weaker = validators.pairs(images, count, seed=1)
    assert expected == len(stronger) == len(weaker)
    assert (stronger != weaker).all()
    assert expected == len({frozenset(pair) for pair in zip(stronger.tolist(), weaker.tolist(), strict=True)})


@pytest.mark.parametrize("images", [60, 400])
def test_blends_that_share_an_image_are_no_independent_proof(images: int) -> None:
    """Two equally good networks: a test at 5 % that took each blend for itself would find one of them better in a third
    of the cases and more.
    """
    random, plain, robust = np.random.default_rng(0), 0, 0
    for seed in range(200):
        pairs = validators.pairs(images, 2000, seed)
        kept = []
        for _ in range(2):
            good = random.random(images) < 0.8
            kept.append(good[pairs[0]] & good[pairs[1]])
        plain += Paired.of(*kept).p_value < 0.05
        robust += Paired.of_blends(*kept, pairs).p_value < 0.05
    assert plain > 60
    assert robust <= 16


def test_blends_of_images_apart_are_as_good_as_images() -> None:
    """Without a shared image the design effect is one."""
    first, second = np.arange(10) < 8, np.arange(10) % 2 == 0
    apart = (np.arange(10), np.arange(10, 20))
    assert Paired.of(first, second) == Paired.of_blends(first, second, apart)
    assert Paired.of(first, first) == Paired.of_blends(first, first, apart)
    assert Paired(9, 0, 30).is_sure()
    assert not Paired(9, 0, 30, design_effect=3.0).is_sure()
    wide, narrow = Paired(20, 4, 200, design_effect=4.0), Paired(20, 4, 200)
    assert wide.interval(0).low - wide.gap == pytest.approx(2 * (narrow.interval(0).low - narrow.gap))
    assert Paired(9, 0, 9, design_effect=2.0).interval(0).high == 1.0


def contender(name: str, kept: int, right: int) -> Contender:
    """Of 20 blends and 20 held-out labels."""
    made = Contender(name)
    made.scores = Scores(mixval=kept / 20, information=1.0, balance=1.0, kept=np.arange(20) < kept, pairs=APART)
    made.right = np.arange(20) < right
    return made


def test_two_ways_to_prove_a_gain_share_the_error() -> None:
    """Six of six in favour are sure at 5 %, and not at half of it."""
    baseline = contender("probe", kept=10, right=10)
    better_blends = contender("mcc", kept=16, right=10)
    assert without_labels._doubt(better_blends, baseline, 0, 1) is not None
    better_blends.right = None
    assert without_labels._doubt(better_blends, baseline, 0, 1) is None
    assert without_labels._doubt(contender("ridge", kept=10, right=17), baseline, 0, 1) is None
