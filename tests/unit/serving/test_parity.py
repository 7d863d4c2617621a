"""Parity: it passes what is equal, and it sees what is not."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.core.device import one_thread
from pipeline.serving.parity import compare
from pipeline.serving.predictor import Predictor
from pipeline.serving.reference import reference

RANDOM = np.random.default_rng(0)
MIXED = [RANDOM.integers(0, 256, (size, size + 3, 3), dtype=np.uint8) for size in [20] * 5 + [31] * 4 + [600]]


def test_an_honest_export_is_equal_at_every_batch_size(tiny_model, tiny_net, preprocessing):
    """Batch 1 takes the images at their own sizes, larger batches at one."""
    report, answers = compare(reference(tiny_net, preprocessing), Predictor(tiny_model), MIXED, split="test")
    assert 0 == report.disagreements
    alone = [Predictor(tiny_model).run(image[None]).probabilities[0] for image in MIXED]
    np.testing.assert_array_equal(answers, alone)
    assert report.max_probability_delta < 1e-4
    assert [(1, 10, 3), (2, 10, 1), (7, 10, 1), (32, 10, 1)] == [
        (batch.batch_size, batch.images, batch.sizes) for batch in report.batches
    ]


def test_another_network_is_found_out(tiny_model, tiny_net, preprocessing):
    """Every disagreement is counted, once per batch size, and the largest difference is kept."""
    honest = reference(tiny_net, preprocessing)
    report = compare(lambda batch: honest(batch)[:, ::-1], Predictor(tiny_model), MIXED, split="test").report
    assert report.disagreements > 0
    assert report.max_probability_delta > 1e-2


def test_a_fault_in_large_batches_alone_is_found_out(tiny_model, tiny_net, preprocessing):
    """A file that is right one by one and wrong in batches does not pass."""

    class WrongInBatches(Predictor):
        def run(self, batch):
            answers = super().run(batch)
            return answers._replace(probabilities=np.roll(answers.probabilities, 1, axis=0))

    report = compare(reference(tiny_net, preprocessing), WrongInBatches(tiny_model), MIXED, split="test").report
    assert 0.0 < report.max_probability_delta
    assert report.batches[0].max_probability_delta < 1e-4 < report.batches[-1].max_probability_delta


@pytest.mark.parametrize("who", ["network", "file", "both"])
def test_answers_that_are_no_numbers_are_disagreements(tiny_model, tiny_net, preprocessing, who):
    """NaN is equal to nothing, NaN included: two sides that both fail have not been proven equal."""
    honest = reference(tiny_net, preprocessing)

    class Absurd(Predictor):
        def run(self, batch):
            answers = super().run(batch)
            return answers._replace(probabilities=np.full_like(answers.probabilities, np.nan))

    network = honest if who == "file" else lambda batch: np.full_like(honest(batch), np.nan)
    predictor = Predictor(tiny_model) if who == "network" else Absurd(tiny_model)
    report = compare(network, predictor, MIXED, split="test", step=1.0).report
    assert [10] * 4 == [batch.disagreements for batch in report.batches]
    assert (0, 1.0) == (report.ties, report.max_probability_delta)


def test_large_batches_use_part_of_the_images(tiny_model, tiny_net, preprocessing):
    """``batched_images`` limits the larger batch sizes, not batch 1."""
    honest = reference(tiny_net, preprocessing)
    report = compare(honest, Predictor(tiny_model), MIXED, split="train", batched_images=4).report
    assert [10, 4, 4, 4] == [batch.images for batch in report.batches]
    assert (10, "train") == (report.images, report.split)


def test_the_network_answers_each_set_of_pixels_once(tiny_model, tiny_net, preprocessing):
    """Five images have the first one's size as they are; the other five are resized for the larger batches."""
    honest, seen = reference(tiny_net, preprocessing), []

    def counting(batch):
        seen.extend(image.tobytes() for image in batch)
        return honest(batch)

    compare(counting, Predictor(tiny_model), MIXED, split="test")
    assert 15 == len(seen) == len(set(seen))


def test_what_the_network_is_known_to_answer_it_is_not_asked(tiny_model, tiny_net, preprocessing):
    """But for images that were brought to the first one's size; a wrong answer is found out."""
    honest, asked = reference(tiny_net, preprocessing), []

    def counting(images):
        asked.extend(images)
        return honest(images)

    known = np.concatenate([honest([image]) for image in MIXED])
    plain = compare(honest, Predictor(tiny_model), MIXED, split="test").report
    spared = compare(counting, Predictor(tiny_model), MIXED, split="test", known=known).report
    assert 5 == len(asked)
    assert (0, 10, 4) == (spared.disagreements, spared.images, len(spared.batches))
    assert ("network", "features") == (plain.against, spared.against)
    assert pytest.approx(plain.max_probability_delta, abs=1e-6) == spared.max_probability_delta
    known[[3, 7]] = known[[3, 7], ::-1]
    found = compare(honest, Predictor(tiny_model), MIXED, split="test", known=known).report
    assert 2 == found.batches[0].disagreements


@pytest.mark.parametrize(("sides", "expected"), [([300] * 17, [8, 8, 1]), ([600] * 3, [3]), ([2000, 20, 1500], [1, 2])])
def test_large_photos_are_answered_in_smaller_groups(tiny_net, preprocessing, sides, expected):
    """Else eight of twelve megapixels, and what a resize makes of them, would have to fit in memory on each core."""
    honest, groups = reference(tiny_net, preprocessing), []

    def counting(images):
        groups.append(len(images))
        return honest(images)

    answers = SimpleNamespace(classes=["a", "b", "c"], alone=lambda image: honest([image])[0])
    photos = [np.zeros((side, side, 3), dtype=np.uint8) for side in sides]
    compare(counting, answers, photos, split="test", batch_sizes=[], batched_images=0, at_once=lambda _: 1)
    assert expected == groups


def test_of_no_image_nothing_is_said(tiny_model, tiny_net, preprocessing):
    """The gate says what that means."""
    report, answers = compare(reference(tiny_net, preprocessing), Predictor(tiny_model), [], split="train")
    assert (0, (0, 3)) == (report.images, answers.shape)


def test_no_more_at_once_than_is_allowed_for_so_many(tiny_model, tiny_net, preprocessing):
    """One where the network is spared, eight where it is asked, and each larger batch."""
    honest, asked = reference(tiny_net, preprocessing), []
    known = np.concatenate([honest([image]) for image in MIXED])
    for given in (None, known):
        compare(honest, Predictor(tiny_model), MIXED, split="test", known=given, at_once=lambda n: asked.append(n) or 1)
    assert [8, 8, 2, 7, 32, 1, 8, 2, 7, 32] == asked


@pytest.mark.parametrize("who", ["network", "file"])
def test_a_side_that_fails_ends_the_comparison(tiny_model, tiny_net, preprocessing, who):
    """The error is told as it was raised, no thread stays behind, and torch has as many as before."""
    honest = reference(tiny_net, preprocessing)

    def failing(batch):
        raise MemoryError("of the third image")

    class Failing(Predictor):
        run = staticmethod(failing)

    network, predictor = failing if who == "network" else honest, Failing if who == "file" else Predictor
    before = torch.get_num_threads(), threading.active_count()
    with pytest.raises(MemoryError, match="third image"), one_thread():
        compare(network, predictor(tiny_model), MIXED, split="test")
    assert before == (torch.get_num_threads(), threading.active_count())


def flipped(probabilities: list[list[float]]):
    """A file that answers each image with the row of its number, whatever the network says."""

    return SimpleNamespace(classes=["a", "b", "c"], alone=lambda image: np.array(probabilities[image[0, 0, 0]]))


NUMBERED = [np.full((4, 4, 3), number, dtype=np.uint8) for number in range(3)]


def forest(batch):
    """Ten trees: two images on which two classes get about as many votes, one that is clear."""
    return np.array([[[0.5, 0.4, 0.1], [0.4, 0.4, 0.2], [0.9, 0.1, 0.0]][image[0, 0, 0]] for image in batch])


def test_a_head_with_steps_may_fall_to_the_other_side_of_a_tie():
    """Another class where the network's two best are all but equal is a tie; where they are not, a disagreement."""
    answers = flipped([[0.4, 0.5, 0.1], [0.4, 0.4, 0.2], [0.1, 0.9, 0.0]])
    report = compare(forest, answers, NUMBERED, split="test", batch_sizes=[], step=0.1).report
    assert (1, 1, 0.1) == (report.ties, report.disagreements, report.step)
    assert (1, 1) == (report.batches[0].ties, report.batches[0].disagreements)


def test_without_steps_there_are_no_ties():
    """A continuous head has no excuse."""
    answers = flipped([[0.4, 0.5, 0.1], [0.4, 0.4, 0.2], [0.9, 0.1, 0.0]])
    report = compare(forest, answers, NUMBERED, split="test", batch_sizes=[]).report
    assert (0, 1, 0.0) == (report.ties, report.disagreements, report.step)
