"""Intervals against independent ways to get them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation import intervals, metrics


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 5), (5, 5), (88, 90), (450, 899)])
def test_wilson_equals_scipy(hits, trials):
    theirs = binomtest(hits, trials).proportion_ci(method="wilson")
    np.testing.assert_allclose([theirs.low, theirs.high], intervals.wilson(hits, trials), atol=1e-12)


def test_wilson_of_nothing_is_unknown():
    assert intervals.wilson(0, 0) is None


def by_image(labels, predicted, score, seed, resamples=4000):
    """The bootstrap as the textbook has it: draw images, count, score."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(labels), (resamples, len(labels)))
    values = [score(metrics.confusion_matrix(labels[rows], predicted[rows], 3)) for rows in drawn]
    return np.percentile(values, [2.5, 97.5])


def test_multinomial_counts_equal_drawing_images():
    """Drawing the counts at once gives the interval that drawing images one by one gives, within its own noise."""
    random = np.random.default_rng(0)
    labels = random.choice(3, size=300, p=[0.6, 0.3, 0.1])
    predicted = np.where(random.random(300) < 0.8, labels, random.choice(3, size=300))
    scores = {"accuracy": metrics.accuracy, "f1": metrics.f1_macro, "balanced": metrics.balanced_accuracy}
    confusion = metrics.confusion_matrix(labels, predicted, 3)
    ours = intervals.of_confusion(confusion, scores, resamples=4000, seed=1)
    for name, score in scores.items():
        np.testing.assert_allclose(by_image(labels, predicted, score, seed=2), ours[name], atol=0.012)


def test_the_same_seed_gives_the_same_interval(monkeypatch):
    """Also when many classes make the resamples come in several parts."""
    confusion = np.eye(4, dtype=np.int64) * 20 + 3
    once = intervals.of_confusion(confusion, {"accuracy": metrics.accuracy}, resamples=500, seed=3)
    monkeypatch.setattr(intervals, "MAX_CELLS", 16 * 500)
    assert once == intervals.of_confusion(confusion, {"accuracy": metrics.accuracy}, resamples=500, seed=3)
    monkeypatch.setattr(intervals, "MAX_CELLS", 160)
    parts = intervals.of_confusion(confusion, {"accuracy": metrics.accuracy}, resamples=500, seed=3)
    np.testing.assert_allclose(once["accuracy"], parts["accuracy"], atol=0.02)


def test_pairing_makes_a_small_gain_visible():
    """Two models that agree on most images differ by few, and the interval knows it."""
    low, high = intervals.paired_gain(fixed=12, broken=0, images=900, resamples=2000, seed=0)
    assert 0 < low < 12 / 900 < high


def test_equal_models_have_no_gain_at_all():
    assert (0.0, 0.0) == intervals.paired_gain(fixed=0, broken=0, images=50, resamples=500, seed=0)


def test_the_paired_difference_stays_wide_for_few_images():
    """Without any difference its ends are ± z² / (n + z²); where all differ one way, it reaches the end."""
    low, high = intervals.paired_difference(0, 0, 10)
    assert (-high, high) == pytest.approx((low, intervals.Z**2 / (10 + intervals.Z**2)), abs=1e-6)
    assert 1 == pytest.approx(intervals.paired_difference(6, 0, 6).high)


def test_the_paired_difference_is_the_usual_one_for_many_images():
    """Near Wald's interval; turned round, it is the same with the other sign."""
    low, high = intervals.paired_difference(300, 250, 20000)
    reach = intervals.Z * np.sqrt(550 - 50**2 / 20000) / 20000
    assert (0.0025 - reach, 0.0025 + reach) == pytest.approx((low, high), abs=1e-4)
    assert (-high, -low) == pytest.approx(intervals.paired_difference(250, 300, 20000))


def test_the_paired_difference_holds_the_truth_as_often_as_it_says():
    """Of 60 images, 10 % lost and 4 % won."""
    drawn = np.random.default_rng(0).multinomial(60, [0.10, 0.04, 0.86], size=500)
    bounds = [intervals.paired_difference(int(lost), int(won), 60) for lost, won, _ in drawn]
    assert 0.92 <= np.mean([low <= 0.06 <= high for low, high in bounds]) <= 0.98


def test_the_mean_of_many_images_is_resampled_in_parts(monkeypatch):
    """Memory has a bound; the interval is as good."""
    values = np.random.default_rng(0).normal(0, 1, 400)
    whole = intervals.of_mean(values, resamples=1000, seed=1)
    monkeypatch.setattr(intervals, "MAX_CELLS", 400 * 30)
    assert whole == pytest.approx(intervals.of_mean(values, resamples=1000, seed=1), abs=0.02)


def test_the_mean_of_shares_stays_wide_where_all_is_right():
    """Ten classes of six images, all right: about Wilson's of sixty of sixty, and not surely all."""
    low, high = intervals.mean_of_shares(np.full(10, 6), np.full(10, 6))
    assert 1.0 == high
    assert pytest.approx(intervals.wilson(60, 60).low, abs=0.02) == low


def test_the_mean_of_shares_is_as_wide_as_the_class_with_the_fewest_images():
    """Two images say little of a class, however many the other has."""
    low, _ = intervals.mean_of_shares(np.array([1000, 2]), np.array([1000, 2]))
    assert low < 0.9
    assert intervals.mean_of_shares(np.array([1000, 900]), np.array([1000, 900])).low > 0.995


def test_the_mean_of_many_shares_is_the_usual_one():
    """With many images it is the mean plus and minus 1.96 standard errors."""
    hits, trials = np.array([9000, 4000, 700]), np.array([10000, 5000, 1000])
    low, high = intervals.mean_of_shares(hits, trials)
    shares = hits / trials
    reach = 1.96 * np.sqrt((shares * (1 - shares) / trials).sum()) / 3
    assert pytest.approx((shares.mean() - reach, shares.mean() + reach), abs=5e-4) == (low, high)


def test_the_mean_of_shares_holds_the_truth_as_often_as_it_says():
    """Over many draws of few images, of recalls from sure to poor, about 95 % of the intervals have the true mean."""
    rng = np.random.default_rng(4)
    trials = np.array([4, 30, 12, 8])
    for recalls in ([0.99, 0.95, 0.9, 0.97], [0.6, 0.8, 0.3, 0.5], [1.0, 0.9, 1.0, 0.7]):
        drawn = rng.binomial(trials, recalls, size=(2000, 4))
        found = [intervals.mean_of_shares(hits, trials) for hits in drawn]
        held = np.mean([low <= np.mean(recalls) <= high for low, high in found])
        assert 0.93 <= held <= 0.995
