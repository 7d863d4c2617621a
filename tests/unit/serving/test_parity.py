"""Parity: it passes what is equal, and it sees what is not."""

from __future__ import annotations

import numpy as np

from pipeline.serving.parity import compare
from pipeline.serving.predictor import Predictor
from pipeline.serving.reference import reference

RANDOM = np.random.default_rng(0)
MIXED = [RANDOM.integers(0, 256, (size, size + 3, 3), dtype=np.uint8) for size in [20] * 5 + [31] * 4 + [600]]


def test_an_honest_export_is_equal_at_every_batch_size(tiny_model, tiny_net, preprocessing):
    """Batch 1 takes the images at their own sizes, larger batches at one."""
    report = compare(reference(tiny_net, preprocessing), Predictor(tiny_model), MIXED, split="test")
    assert 0 == report.disagreements
    assert report.max_probability_delta < 1e-4
    assert [(1, 10, 3), (2, 10, 1), (7, 10, 1), (32, 10, 1)] == [
        (batch.batch_size, batch.images, batch.sizes) for batch in report.batches
    ]


def test_another_network_is_found_out(tiny_model, tiny_net, preprocessing):
    """Every disagreement is counted, once per batch size, and the largest difference is kept."""
    honest = reference(tiny_net, preprocessing)
    report = compare(lambda batch: honest(batch)[:, ::-1], Predictor(tiny_model), MIXED, split="test")
    assert report.disagreements > 0
    assert report.max_probability_delta > 1e-2


def test_a_fault_in_large_batches_alone_is_found_out(tiny_model, tiny_net, preprocessing):
    """A file that is right one by one and wrong in batches does not pass."""

    class WrongInBatches(Predictor):
        def run(self, batch):
            answers = super().run(batch)
            return answers._replace(probabilities=np.roll(answers.probabilities, 1, axis=0))

    report = compare(reference(tiny_net, preprocessing), WrongInBatches(tiny_model), MIXED, split="test")
    assert 0.0 < report.max_probability_delta
    assert report.batches[0].max_probability_delta < 1e-4 < report.batches[-1].max_probability_delta


def test_large_batches_use_part_of_the_images(tiny_model, tiny_net, preprocessing):
    """``batched_images`` limits the larger batch sizes, not batch 1."""
    report = compare(reference(tiny_net, preprocessing), Predictor(tiny_model), MIXED, split="train", batched_images=4)
    assert [10, 4, 4, 4] == [batch.images for batch in report.batches]
    assert (10, "train") == (report.images, report.split)
