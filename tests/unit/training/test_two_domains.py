"""Strategies that learn from both domains' features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_tasks import FEATURES, blobs, feature_task

from pipeline.core import plugins
from pipeline.stages.train import STRATEGIES
from pipeline.training.classifiers.boosting import tradaboost
from pipeline.training.classifiers.linear_probe import path
from pipeline.training.classifiers.two_domains import labelled_source, rows_to_learn
from pipeline.training.strategies import standardise
from pipeline.training.strategies import tradaboost as tradaboost_strategy
from pipeline.training.task import Labelled


def accuracy(fitted, data: Labelled) -> float:
    features = np.zeros((len(data), FEATURES), np.float32)
    features[:, : data.features.shape[1]] = data.features
    with torch.no_grad():
        answered = fitted.network.head(torch.from_numpy(features)).argmax(1).numpy()
    return float((answered == data.labels).mean())


def fit(name: str, task, **params):
    strategy = plugins.load(STRATEGIES, name)
    return strategy.fit(task, strategy.Params(**params), task.context)


def stretched(data: Labelled) -> Labelled:
    """As another camera might: every feature with a gain and an offset of its own."""
    random = np.random.default_rng(5)
    features = data.features * random.uniform(0.3, 3, 8) + random.normal(0, 6, 8)
    return Labelled(features.astype(np.float32), data.labels)


@pytest.mark.parametrize("name", ["standardise", "coral", "linear_ot"])
def test_a_moved_source_answers_a_shifted_target(name):
    """Where the probe of the source is at a loss, the moved source's is right; no target label is used."""
    source, target = blobs(300), stretched(blobs(300, seed=1))
    task = feature_task(source, target, labelled=0)
    assert accuracy(fit("probe", task), target) < 0.7
    assert accuracy(fit(name, task), target) > 0.85


def test_target_labels_join_the_moved_source():
    """Fitted to both; held out are target images alone, and those are never moved."""
    source, target = blobs(30), stretched(blobs(60, seed=1))
    task = feature_task(source, target)
    training = rows_to_learn(task, lambda features: features + 100)
    assert "validation split" == training.selection
    [fold] = training.folds
    assert (48 + 24, 12) == (len(fold.fit), len(fold.held_out))
    assert (60 + 24) == len(training.everything)
    np.testing.assert_array_equal(task.val_set.features, fold.held_out.features)
    assert fold.fit.features[:48].max() < 90 < fold.fit.features[48:].min()


def test_without_target_labels_the_source_is_held_out_as_it_is_fitted():
    """Moved on both sides; weights go with their rows."""
    task = feature_task(blobs(60), blobs(40, seed=1), labelled=0)
    weights = np.arange(60, dtype=float)
    training = rows_to_learn(task, lambda features: features + 100, weights)
    [fold] = training.folds
    assert 60 == len(labelled_source(task)) == len(training.everything)
    assert fold.held_out.features.min() > 90
    assert weights.tolist() == [*fold.fit_weights, *fold.held_out_weights]


def test_weights_of_the_target_are_one():
    task = feature_task(blobs(30), blobs(60, seed=1))
    training = rows_to_learn(task, lambda features: features, np.full(24, 0.5))
    assert [1.0] * 60 + [0.5] * 24 == training.weights.tolist()


def test_a_weight_of_two_is_an_image_twice():
    """The weighted fit is that of repeated rows (standardised alike)."""
    data = blobs(60)
    both = Labelled(np.concatenate([data.features] * 2), np.concatenate([data.labels] * 2))
    weights = np.ones(120)
    weights[:60], weights[60:] = 1.5, 0.5
    plain, weighted = (next(path(rows, [0.1], 3, values)) for rows, values in ((data, None), (both, weights)))
    np.testing.assert_allclose(plain.weight, weighted.weight, atol=1e-3)


def test_boosting_lets_go_of_a_source_that_misleads():
    """Source labels that are all one class further lose nearly all their weight, honest ones keep their half."""
    target, source = blobs(60, spread=0.3, seed=1), blobs(200, spread=0.3)
    wrong = Labelled(source.features, (source.labels + 1) % 3)
    shares = [list(tradaboost(target, each, 0.01, [1, 10], 3))[-1].source_share for each in (source, wrong)]
    assert 0.5 == pytest.approx(shares[0], abs=0.05)
    assert shares[1] < 0.05


def test_boosting_is_right_in_spite_of_a_source_that_misleads():
    """The plain probe of both domains believes the larger one; after some rounds the target is believed."""
    target, source, new = blobs(60, seed=1), blobs(240), blobs(300, seed=2)
    task = feature_task(Labelled(source.features, (source.labels + 1) % 3), target)
    fitted = fit("tradaboost", task)
    assert accuracy(fitted, new) > 0.9
    assert {"rounds", "penalty", "temperature"} == set(fitted.record.chosen)
    assert fitted.record.chosen["rounds"] > 1
    assert "the source's images have" in fitted.record.sentences[-1]


def test_boosting_is_judged_by_what_it_was_fitted_to():
    """A class of one target image, which the source knows well, is answered in the fold that holds it out."""
    pool = blobs(30, spread=0.3, seed=3)
    rows = np.concatenate([np.flatnonzero(pool.labels == label)[:count] for label, count in ((0, 4), (1, 4), (2, 1))])
    task = feature_task(blobs(90, spread=0.3), Labelled(pool.features[rows], pool.labels[rows]))
    assert 1.0 == fit("tradaboost", task).record.cv_accuracy


def test_boosting_for_one_round_is_one_probe():
    """Its vote is its only hypothesis; domains of one size then weigh alike."""
    target, source = blobs(60, seed=1), blobs(60)
    [boosted] = tradaboost(target, source, 0.1, [1], 3)
    both = Labelled(np.concatenate([target.features, source.features]), np.concatenate([target.labels, source.labels]))
    np.testing.assert_allclose(next(path(both, [0.1], 3)).weight, boosted.head.weight, atol=1e-4)


@pytest.mark.parametrize("module", [standardise, tradaboost_strategy])
def test_they_need_a_source(module):
    from pipeline.training.needs import unmet

    assert "source" in unmet(module, feature_task(None, blobs(60)))
