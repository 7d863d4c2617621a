"""Weights of source images, and when they are refused."""

from __future__ import annotations

import numpy as np
import pytest
from feature_tasks import blobs, feature_task

from pipeline.core.errors import DataError
from pipeline.training.classifiers.density_ratio import CLIP, Weights, check, density_ratio
from pipeline.training.strategies import instance


def test_images_like_the_targets_weigh_more():
    """A target of class 0 alone, from the same distribution: the source's images of class 0 gain."""
    source, target = blobs(300), blobs(300, seed=1)
    only = target.features[target.labels == 0]
    weights = density_ratio(source.features, only, seed=0)
    means = [weights.values[source.labels == label].mean() for label in range(3)]
    assert means[0] > 1.5 * max(means[1:])
    assert 1 == pytest.approx(weights.values.mean())


def test_equal_domains_have_equal_weights():
    """Nothing to tell apart: nearly all images are effective, none is clipped."""
    weights = density_ratio(blobs(300).features, blobs(300, seed=1).features, seed=0)
    assert weights.effective_share > 0.9
    assert 0 == weights.clipped_share


def test_the_effective_number_is_kishs():
    """(Σw)² / Σw², and weights before normalising lie within the bounds."""
    weights = density_ratio(blobs(60).features, blobs(60, shift=1.0).features, seed=0)
    assert weights.effective == pytest.approx(weights.values.sum() ** 2 / (weights.values**2).sum())
    assert weights.values.max() / weights.values.min() <= CLIP[1] / CLIP[0] + 1e-9


def test_domains_that_do_not_overlap_are_refused_in_words(capsys):
    """All weights are at the clip, so that all images look effective; the clipped share tells."""
    task = feature_task(blobs(200, dimensions=200), blobs(200, shift=30.0, dimensions=200), labelled=0)
    with pytest.raises(DataError) as error:
        instance.fit(task, instance.Params(), task.context)
    assert 2 == error.value.exit_code
    message = str(error.value)
    assert "domains that overlap" in message
    assert "of the weights were clipped" in message
    assert "standardise or linear_ot" in message
    assert "instance:" in capsys.readouterr().out


def test_a_handful_of_effective_images_is_refused():
    """3 of 100 are less than 5 %."""
    with pytest.raises(DataError, match="3 of 100 source images are effective"):
        check(Weights(np.ones(100), 3.0, 0.0))


def test_one_image_is_no_domain():
    with pytest.raises(DataError, match="1 source and 5 target images"):
        density_ratio(np.ones((1, 2)), np.ones((5, 2)), seed=0)


def test_the_record_tells_effective_size_and_clipped_share():
    task = feature_task(blobs(120), blobs(120, shift=0.2), labelled=0)
    record = instance.fit(task, instance.Params(), task.context).record
    assert {"penalty", "effective_images", "clipped_share"} == set(record.chosen)
    assert "are effective" in record.sentences[-1]
