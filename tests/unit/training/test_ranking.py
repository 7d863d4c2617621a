"""Ranking backbones: what is judged on which images, and who wins a tie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.features.options import ExtractionOptions
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights
from pipeline.training.ranking import backbones as ranking
from pipeline.training.ranking.backbones import (
    RankingImages,
    Trial,
    cross_validated,
    images_to_rank_on,
    ordered,
    stratified_folds,
)
from pipeline.training.task import Labelled

LABELS = LabelSpace(classes=["class0", "class1", "class2"])


def weights(seed: int = 0, origin: str = "random initialisation") -> BackboneWeights:
    start = random_weights("small_cnn", seed, backbone("small_cnn").preprocessing)
    return BackboneWeights(start.facts.model_copy(update={"origin": origin}), start.state)


def trial(
    origin: str, right: int, price: int, *, images: int = 1000, logme: float = 0.0, h_score: float = 0.0
) -> Trial:
    """Right on the first ``right`` images: of two trials the better is right wherever the worse is."""
    hits = np.arange(images) < right
    return Trial(0, weights(origin=origin), hits, 0.1, logme, h_score, 1.0, images, price)


def images_of(trials: list[Trial], labels_from: Any = "target", split: Any = "train") -> RankingImages:
    return RankingImages(Manifest.empty(), np.arange(len(trials[0].hits)) % 3, labels_from, split)


def pick(*trials: Trial, **about: Any) -> tuple[str, Any]:
    """The chosen one's origin, and the whole ranking."""
    ranked = ordered(trials, images_of(list(trials), **about), seed=0)
    return next(row.weights for row in ranked.rows if row.is_chosen), ranked


# -- the choice --------------------------------------------------------------------------------------------------------


def test_a_clear_winner_is_taken_whatever_it_costs() -> None:
    """5 points on 1,000 images are no accident; the sentence gives them with their paired interval."""
    chosen, ranked = pick(trial("cheap", 900, price=1), trial("dear", 950, price=9_000_000_000))
    assert "dear" == chosen
    assert ["dear", "cheap"] == [row.weights for row in ranked.rows]
    assert ranked.reason == (
        "small_cnn (dear, 32 px) was chosen: its probe is right on 95.0% of 1,000 images; the next, small_cnn "
        "(cheap, 32 px), is 5.0 points (95 % interval 3.8 to 6.4) behind."
    )


def test_a_tie_goes_to_the_cheaper() -> None:
    """The paired interval holds 0: the one with fewer multiply-adds is taken, and the sentence says so."""
    even = trial("cheap", 950, price=300_000_000)
    behind = even._replace(hits=np.roll(even.hits, 45))  # as many right, but others
    chosen, ranked = pick(behind, trial("dear", 951, price=1_800_000_000))
    assert "cheap" == chosen
    assert "cheap" == ranked.rows[1].weights
    assert "which is a tie; of the 2 that tie it costs least, 0.3 against 1.8 billion multiply-adds" in ranked.reason


def test_the_most_accurate_that_is_cheapest_too_says_so() -> None:
    """Nothing is given away: among those that cannot be told apart it costs least."""
    twin = trial("twin", 950, price=5)
    chosen, ranked = pick(trial("best", 951, price=1), twin._replace(hits=np.roll(twin.hits, 45)))
    assert "best" == chosen
    assert ranked.reason.endswith("1 more cannot be told from it, and of these 2 it costs least.")


def test_far_behind_is_no_tie_however_few_the_images() -> None:
    """9 of 10 right against 7: the interval holds 0, but noise does not choose a poor backbone for its price."""
    chosen, ranked = pick(trial("cheap", 7, price=1, images=10), trial("dear", 9, price=9, images=10))
    assert "dear" == chosen
    assert ranked.rows[1].behind_low <= 0
    assert "over 3 points are no tie, though so few images leave doubt" in ranked.reason


def test_equal_accuracy_and_equal_price_keep_the_order_of_params() -> None:
    """Nothing tells them apart: the first that was named."""
    assert "first" == pick(trial("first", 90, price=1, images=100), trial("second", 90, price=1, images=100))[0]


def test_the_clock_chooses_nothing() -> None:
    """Other seconds, the same ranking but for them."""
    one, other = trial("a", 90, price=2, images=100), trial("b", 90, price=1, images=100)
    slow = pick(one._replace(features_s=500.0), other._replace(features_s=900.0))
    assert slow[0] == pick(one, other)[0]
    assert slow[1].reason == pick(one, other)[1].reason


def test_votes_are_told_and_decide_nothing() -> None:
    """LogME and H-score may favour another; the probe's word stands."""
    best, other = trial("best", 950, price=1), trial("other", 800, price=1, logme=1.0)
    chosen, ranked = pick(best._replace(h_score=2.0), other)
    assert "best" == chosen
    assert ["LogME puts small_cnn (other, 32 px) first, H-score small_cnn (best, 32 px)."] == ranked.notes
    assert ["LogME and H-score put it first."] == pick(best._replace(h_score=2.0, logme=3.0), other)[1].notes


def test_ranking_on_the_source_is_said() -> None:
    """Its accuracies are the source's, and a shift may change the order."""
    _, ranked = pick(trial("a", 9, price=1, images=10), labels_from="source", split="val")
    assert ["small_cnn (a, 32 px) was chosen: its probe is right on 90.0% of 10 images; it is the only candidate."] == [
        ranked.reason
    ]
    assert "the source's val images were ranked on" in ranked.notes[0]


# -- the images --------------------------------------------------------------------------------------------------------


def test_the_targets_labelled_training_images_are_used(toy_domains: Any) -> None:
    """Neither unlabelled images, nor the splits val and test."""
    found = images_to_rank_on(toy_domains.source, toy_domains.target, LABELS, most=100, seed=0, source_is_seen=False)
    frame = found.manifest.frame
    assert ("target", "train", 18) == (found.labels_from, found.split, len(found.labels))
    assert {"train"} == set(frame["split"])
    assert frame["label"].notna().all()


def test_test_labels_choose_nothing(toy_domains: Any) -> None:
    """Shuffle or remove them: the same images, the same labels."""
    other = toy_domains.target.frame.copy()
    other.loc[other["split"] != "train", "label"] = "class2"
    found = [
        images_to_rank_on(toy_domains.source, target, LABELS, most=100, seed=0, source_is_seen=False)
        for target in (toy_domains.target, Manifest(other))
    ]
    assert list(found[0].manifest.frame["id"]) == list(found[1].manifest.frame["id"])
    assert (found[0].labels == found[1].labels).all()


def test_without_target_labels_the_source_stands_in(toy_domains: Any) -> None:
    """Its training images; its validation images where a candidate was pretrained on the former."""
    bare = Manifest(toy_domains.target.frame.assign(label=None))
    found = [
        images_to_rank_on(toy_domains.source, bare, LABELS, most=100, seed=0, source_is_seen=seen)
        for seen in (False, True)
    ]
    assert [("source", "train"), ("source", "val")] == [(images.labels_from, images.split) for images in found]


def test_one_labelled_class_is_refused(toy_domains: Any) -> None:
    """There is nothing to tell apart; both domains are counted."""
    one = toy_domains.target.where(toy_domains.target.frame["label"] == "class1")
    with pytest.raises(DataError, match="two classes, two of each") as refused:
        images_to_rank_on(Manifest.empty(), one, LABELS, most=100, seed=0, source_is_seen=False)
    said = str(refused.value)
    assert "found 6 of 1 class(es) among the target's train images; 0 of 0 class(es) among the source's" in said
    assert "backbone.candidates in params.yaml" in said


def test_a_sample_has_every_class_and_is_drawn_by_content(toy_manifest: Callable[..., Manifest]) -> None:
    """A rare class keeps its images; the order of rows does not matter; another seed draws others."""
    many = toy_manifest("target", per_class=40, brightness=150)
    rare = many.frame["label"] == "class2"
    uneven = Manifest(many.frame[~rare | (rare.cumsum() <= 3)].reset_index(drop=True))

    def drawn(manifest: Manifest, seed: int) -> Manifest:
        return images_to_rank_on(Manifest.empty(), manifest, LABELS, most=12, seed=seed, source_is_seen=False).manifest

    sample = drawn(uneven, 0)
    assert 12 == len(sample)
    assert {"class0", "class1", "class2"} == set(sample.frame["label"])
    turned = Manifest(uneven.frame[::-1].reset_index(drop=True))
    assert set(sample.frame["id"]) == set(drawn(turned, 0).frame["id"])
    assert set(sample.frame["id"]) != set(drawn(uneven, 1).frame["id"])


# -- cross-validation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(9, 9), (2, 2), (1, 2, 5), (100, 3)])
def test_folds_spread_every_class(counts: tuple[int, ...]) -> None:
    """No fold has two images more of a class than another; with two images of it, no fold has both."""
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = stratified_folds(labels, seed=0)
    for label in range(len(counts)):
        sizes = np.bincount(folds[labels == label], minlength=ranking.FOLDS)
        assert sizes.max() - sizes.min() <= 1


def test_images_of_a_group_share_their_fold() -> None:
    """In as many folds as there are groups, where these are few; where a group is a class, they cannot be."""
    labels, groups = np.tile([0, 1, 0, 1, 1], 8), np.repeat(np.arange(8), 5)
    folds = stratified_folds(labels, 0, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(8))
    assert ranking.FOLDS == len(set(folds))
    assert 2 == len(set(stratified_folds(labels, 0, groups % 2)))
    assert 1 < len(set(stratified_folds(np.array([0, 0, 1, 1]), 0, np.array([0, 1, 0, 2]))))
    by_class = stratified_folds(labels, 0, labels)
    np.testing.assert_array_equal(stratified_folds(labels, 0), by_class)


def test_every_image_is_judged_by_a_probe_that_has_not_seen_it() -> None:
    """Labels that say nothing about the features are guessed at chance; a probe that had seen them would be right."""
    random = np.random.default_rng(0)
    data = Labelled(random.normal(size=(120, 200)).astype(np.float32), random.integers(0, 2, 120))
    _, hits = cross_validated(data, stratified_folds(data.labels, 0))
    assert 0.35 < hits.mean() < 0.65


def test_a_class_with_one_image_is_a_miss_and_no_failure() -> None:
    """The probe that judges it has never seen its class."""
    features = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 2]]
    data = Labelled(features, np.array([0, 0, 0, 1, 1, 1, 2]))
    _, hits = cross_validated(data, stratified_folds(data.labels, 0))
    assert [True] * 6 + [False] == hits.tolist()


def test_equal_inputs_rank_alike(toy_domains: Any) -> None:
    """Everything but the seconds is equal, and what was computed once is found in the cache."""
    context = toy_domains.context(cache=toy_domains.workspace / "cache")
    images = images_to_rank_on(toy_domains.source, toy_domains.target, LABELS, most=100, seed=0, source_is_seen=False)
    first, again = (ranking.rank([weights(0), weights(1)], images, ExtractionOptions(), context) for _ in range(2))
    clock = {"features_s": 0.0, "images_computed": 0}
    assert [row.model_copy(update=clock) for row in first.rows] == [row.model_copy(update=clock) for row in again.rows]
    assert {18} == {row.images_computed for row in first.rows}
    assert {0} == {row.images_computed for row in again.rows}
    assert "cached" in again.table[1]
