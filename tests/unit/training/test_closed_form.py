"""Ridge and LDA from sums against direct solutions and scikit-learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from feature_tasks import blobs
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.training.classifiers import closed_form
from pipeline.training.classifiers.closed_form import Sums, lda_path, ridge_path
from pipeline.training.classifiers.linear_probe import UNSEEN_BIAS, Scaler
from pipeline.training.classifiers.margins import svm_path
from pipeline.training.task import Labelled


@pytest.mark.parametrize("penalty", [10.0, 0.1, 1e-4])
def test_ridge_is_the_direct_solution(penalty):
    """(X̂ᵀX̂ / n + penalty · I)⁻¹ X̂ᵀY / n on standardised features, and class shares for biases."""
    data = blobs(60)
    scaler = Scaler.of(data.features)
    rows, truth = scaler(data.features), np.eye(3)[data.labels]
    weight = np.linalg.solve(rows.T @ rows / 60 + penalty * np.eye(8), rows.T @ (truth - truth.mean(0)) / 60)
    head = next(ridge_path(Sums.of(data, 3), [penalty]))
    np.testing.assert_allclose(head.logits(data.features), rows @ weight + truth.mean(0), atol=2e-5)


@pytest.mark.parametrize("shrinkage", [1.0, 0.3, 1e-3])
def test_lda_is_scikit_learns(shrinkage):
    """The same logits, less what is common to all classes of an image."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    data = blobs(61)
    rows = Scaler.of(data.features)(data.features)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(rows, data.labels)
    found = next(lda_path(Sums.of(data, 3), [shrinkage])).logits(data.features).astype(np.float64)
    shares = np.exp(found - found.max(1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), expected.predict_proba(rows), atol=1e-4)


@pytest.mark.parametrize("path", [ridge_path, lda_path])
def test_a_class_without_images_and_a_constant_feature_do_no_harm(path):
    """The class is never answered; the feature has no weight."""
    data = blobs(30)
    features = np.concatenate([data.features, np.full((30, 1), 7, np.float32)], axis=1)
    head = next(path(Sums.of(Labelled(features, data.labels * 2), 6), [0.1]))
    assert [UNSEEN_BIAS] * 3 == head.bias[[1, 3, 5]].tolist()
    assert {0, 2, 4} == set(head.logits(features).argmax(axis=1))
    assert np.isfinite(head.weight).all()
    assert 0 == pytest.approx(np.abs(head.weight[:, -1]).max(), abs=1e-5)


def test_fewer_images_than_features_are_enough():
    """Covariances without full rank are no trouble, at any penalty or shrinkage of the path."""
    data = blobs(9, dimensions=40)
    for path in (ridge_path, lda_path):
        for head in path(Sums.of(data, 3), [1.0, 1e-2, 1e-4]):
            assert (head.logits(data.features).argmax(axis=1) == data.labels).all()


@pytest.mark.parametrize("path", [ridge_path, lda_path])
def test_many_numbers_are_multiplied_in_single_precision(monkeypatch, path):
    """Nothing that matters is lost where features lie far from zero, and constant ones stay without weight."""
    data = blobs(9000)
    constant = np.broadcast_to(np.array([0.1, 7.3], np.float32), (9000, 2))
    features = np.concatenate([data.features + 20, constant], axis=1)
    shifted = Labelled(features.astype(np.float32), data.labels)
    double = Sums.of(shifted, 3)
    monkeypatch.setattr("pipeline.training.classifiers.closed_form.IN_DOUBLE", 0)
    single = Sums.of(shifted, 3)
    assert (single.products != double.products).any()
    settings = [1.0, 1e-2, 1e-4]
    for head, other in zip(path(double, settings), path(single, settings), strict=True):
        logits = head.logits(shifted.features)
        np.testing.assert_allclose(other.logits(shifted.features), logits, atol=1e-4 * np.abs(logits).max())
        assert 0 == pytest.approx(np.abs(other.weight[:, -2:]).max(), abs=1e-5)


def test_sums_are_made_on_one_thread(monkeypatch):
    """However many there are, a run and a site's contribution have the same bits."""
    threads, parts = [], closed_form._parts

    def noted(data):
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return parts(data)

    monkeypatch.setattr(closed_form, "_parts", noted)
    with threadpool_limits(2):
        Sums.of(blobs(9), 3)
    assert {1} == set(threads)


def test_many_rows_are_summed_in_parts(monkeypatch):
    """However the rows are cut, the sums are the same."""
    data = blobs(50)
    whole = Sums.of(data, 3)
    monkeypatch.setattr("pipeline.training.classifiers.closed_form.ROWS_AT_ONCE", 7)
    parts = Sums.of(data, 3)
    np.testing.assert_allclose(whole.products, parts.products)
    np.testing.assert_allclose(whole.totals, parts.totals)


def test_a_whole_path_costs_one_decomposition():
    """Twelve penalties at 256 features take less than four times as long as one."""
    data = blobs(600, dimensions=256)
    sums = Sums.of(data, 3)
    started = time.perf_counter()
    next(ridge_path(sums, [1.0]))
    one = time.perf_counter() - started
    started = time.perf_counter()
    assert 12 == len(list(ridge_path(sums, np.geomspace(100, 1e-4, 12).tolist())))
    assert time.perf_counter() - started < 4 * one + 0.2


@pytest.mark.parametrize(
    "path", [lambda data, settings: lda_path(Sums.of(data, 4), settings), lambda *given: svm_path(*given, 4)]
)
def test_a_class_without_images_is_not_answered_far_from_all_others(path):
    """Logits that are all very low would otherwise leave it the first place; those of an image have a mean of zero."""
    random, labels = np.random.default_rng(0), np.arange(60) % 3
    data = Labelled((10 * np.eye(3)[labels] + random.normal(0, 0.1, (60, 3))).astype(np.float32), labels)
    head = next(path(data, [1e-3]))
    far = np.concatenate([np.zeros((1, 3)), 1e3 * np.eye(3), -1e3 * np.eye(3), random.normal(0, 1e3, (20, 3))])
    assert 3 not in head.logits(far.astype(np.float32)).argmax(axis=1)
    np.testing.assert_allclose(head.logits(data.features)[:, :3].mean(axis=1), 0, atol=1e-2)
