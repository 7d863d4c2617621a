"""Laws of the scores, whatever the answers were."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.evaluation import intervals, metrics
from pipeline.evaluation.scoring import Answers, overall

CONFUSIONS = hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 30)).filter(lambda matrix: matrix.sum() > 0)


@st.composite
def answers(draw) -> Answers:
    """One to 40 images, three classes, any probabilities."""
    count = draw(st.integers(1, 40))
    scores = draw(hnp.arrays(np.float64, (count, 3), elements=st.floats(0.01, 1)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))
    return Answers(labels, scores / scores.sum(1, keepdims=True))


@given(CONFUSIONS)
def test_every_score_is_a_rate(confusion):
    for score in (metrics.accuracy, metrics.balanced_accuracy, metrics.f1_macro):
        assert 0 <= float(score(confusion)) <= 1


@given(CONFUSIONS, st.permutations(range(4)))
def test_the_names_of_classes_do_not_matter(confusion, order):
    """Permuting rows and columns alike leaves every overall score as it was."""
    permuted = confusion[np.ix_(order, order)]
    for score in (metrics.accuracy, metrics.balanced_accuracy, metrics.f1_macro):
        np.testing.assert_allclose(score(confusion), score(permuted))


@given(answers(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_the_images_does_not_matter(given_answers, shuffler):
    rows = list(range(len(given_answers.labels)))
    shuffler.shuffle(rows)
    shuffled = Answers(given_answers.labels[rows], given_answers.probabilities[rows])
    ours, theirs = (overall(entry, resamples=100, seed=0) for entry in (given_answers, shuffled))
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-12)


@given(answers())
@settings(max_examples=50)
def test_intervals_are_ordered_and_within_the_possible(given_answers):
    scores = overall(given_answers, resamples=100, seed=0)
    for name in ("accuracy", "balanced_accuracy", "f1_macro"):
        assert 0 <= scores[f"{name}_low"] <= scores[f"{name}_high"] <= 1
    assert 0 <= scores["ece"] <= 1
    assert 0 <= scores["brier"] <= 2


@given(st.integers(0, 500).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_wilson_holds_the_share_itself(counts):
    hits, trials = counts
    bounds = intervals.wilson(hits, trials)
    if trials:
        assert bounds.low - 1e-12 <= hits / trials <= bounds.high + 1e-12


@given(st.integers(1, 60), st.integers(1, 60), st.integers(120, 400))
@settings(max_examples=25)
def test_gain_and_loss_mirror_each_other(fixed, broken, images):
    """Swapping the two models turns the interval round, up to the noise of the bootstrap."""
    ours = intervals.paired_gain(fixed, broken, images, resamples=4000, seed=0)
    theirs = intervals.paired_gain(broken, fixed, images, resamples=4000, seed=1)
    np.testing.assert_allclose([ours.low, ours.high], [-theirs.high, -theirs.low], atol=0.03)
