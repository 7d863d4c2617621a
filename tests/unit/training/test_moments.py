"""What the maps between domains do to single cases; the laws are in tests/property."""

from __future__ import annotations

import numpy as np
import pytest
from feature_tasks import blobs

from pipeline.training.classifiers import moments


def test_a_feature_that_never_varies_only_moves():
    """No division by zero: its mean becomes the target's."""
    source, target = np.ones((5, 2), np.float32), np.full((5, 2), 3, np.float32)
    source[:, 1] = np.arange(5)
    moved = moments.standardising(source, target).moved(source)
    assert [3.0] * 5 == moved[:, 0].tolist()


@pytest.mark.parametrize("function", [moments.standardising, moments.coral, moments.linear_ot])
def test_equal_domains_stay_where_they_are(function):
    """The map onto oneself is the identity, and float32 stays float32."""
    features = blobs(50).features
    moved = function(features, features.copy()).moved(features)
    assert np.float32 == moved.dtype
    np.testing.assert_allclose(features, moved, atol=1e-4)


@pytest.mark.parametrize("function", [moments.coral, moments.linear_ot])
def test_two_images_in_a_domain_are_enough_for_finite_numbers(function):
    """A covariance of rank one is filled up on its diagonal."""
    source, target = blobs(2, dimensions=30), blobs(3, dimensions=30, shift=2)
    assert np.isfinite(function(source.features, target.features).moved(source.features)).all()


def test_optimal_transport_moves_less_than_coral():
    """Both match the moments; of all that do, it displaces least (where covariances do not commute)."""
    random = np.random.default_rng(0)
    source = random.normal(size=(400, 4)) @ random.normal(size=(4, 4))
    target = random.normal(size=(400, 4)) @ random.normal(size=(4, 4))
    moved = [function(source, target).moved(source) for function in (moments.linear_ot, moments.coral)]
    displacement = [float(np.square(each - source).sum(1).mean()) for each in moved]
    assert displacement[0] < displacement[1]
