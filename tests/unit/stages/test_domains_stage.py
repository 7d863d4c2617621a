"""The domains stage: what is compared with what, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core import digests
from pipeline.core.context import Result
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.evaluation.domain_card import DomainCard
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.stages.domains import Params, run

QUICK = Params(draws=20, map_images=0)


def table(manifest: Manifest, mean: float = 0.0, backbone: str = "b") -> FeatureTable:
    """Noise around ``mean``, six features."""
    ids = manifest.frame["id"].tolist()
    random = np.random.default_rng([len(ids), int(10 * mean)])
    facts = TableFacts(
        backbone="small_cnn",
        backbone_digest=backbone,
        preprocessing_digest="p",
        dtype="float32",
        count=len(ids),
        feature_dim=6,
    )
    return FeatureTable(facts, ids, random.normal(mean, 1, (len(ids), 6)).astype(np.float32))


def many(images: int, name: str) -> Manifest:
    """Unlabelled training images that differ in their ids alone."""
    names = [f"{name}{number}" for number in range(images)]
    ids = [digests.of_bytes(one.encode()) for one in names]
    return Manifest.of(pd.DataFrame({"name": names, "id": ids, "split": "train", "domain": "target"}))


def compared(toy: Any, *, previous: DomainCard | None = None, params: Params = QUICK, **inputs: Any) -> Result:
    given = {
        "label_space": toy.labels,
        "source_manifest": toy.source,
        "target_manifest": toy.target,
        "source_features": table(toy.source),
        "target_features": table(toy.target, mean=3),
        "previous_domain": previous or DomainCard.empty(),
    }
    return run(params, toy.context(), **(given | inputs))


def test_the_target_is_compared_with_the_source(toy_domains):
    """On train and val: 48 of 60 images of each; the line grades the shift."""
    result = compared(toy_domains)
    report = result.outputs["domains"]
    assert (48, 48, "far") == (report.source_images, report.target_images, report.nearness)
    assert result.line.startswith("far from the source (MMD 0.")
    assert result.line.endswith("last run not compared")
    assert "do not imply an accurate target model" in report.sentences[-1]


def test_test_images_and_their_labels_take_no_part(toy_domains):
    """Other labels and other features of the test images give the same bytes."""
    shuffled = toy_domains.target.frame.copy()
    is_test = shuffled["split"] == "test"
    shuffled.loc[is_test, "label"] = "class0"
    features = table(toy_domains.target, mean=3)
    features.features[is_test.to_numpy()] = 1e6
    ours, theirs = (
        compared(toy_domains),
        compared(toy_domains, target_manifest=Manifest(shuffled), target_features=features),
    )
    for name in ("domains", "drift"):
        assert ours.outputs[name] == theirs.outputs[name]
    np.testing.assert_array_equal(ours.outputs["domain_card"].features, theirs.outputs["domain_card"].features)


def test_source_classes_that_the_target_lacks_are_left_out(toy_domains):
    """They take no part in transfer either."""
    report = compared(toy_domains, label_space=LabelSpace(classes=["class0", "class1"])).outputs["domains"]
    assert 32 == report.source_images


@pytest.mark.parametrize(("label", "reason"), [(None, "has a label"), ("another class", "has a class of the target")])
def test_a_source_without_a_mapped_class_is_compared_whole(toy_domains, label, reason):
    """It is not said to be absent; the first sentence says that all of it was taken, and why."""
    source = Manifest(toy_domains.source.frame.assign(label=label).astype({"label": "str"}))
    report = compared(toy_domains, source_manifest=source).outputs["domains"]
    assert (48, "far") == (report.source_images, report.nearness)
    assert f"No image of the source {reason}: all 48 of them are compared." == report.sentences[0]


def test_without_a_source_there_is_only_the_last_run(toy_domains):
    """The report says so, and grades nothing."""
    nothing = Manifest(toy_domains.source.frame.iloc[:0])
    report = compared(toy_domains, source_manifest=nothing, source_features=table(nothing)).outputs["domains"]
    assert (None, []) == (report.nearness, report.distances)
    assert ["There is no source domain to compare the target with."] == report.sentences


def test_the_first_run_has_nothing_to_compare_its_target_with(toy_domains):
    """It leaves a card for the next."""
    outputs = compared(toy_domains).outputs
    assert ["There is no last run whose target this one could be compared with."] == outputs["drift"].sentences
    assert (48, "b", "p") == (
        len(outputs["domain_card"]),
        outputs["domain_card"].backbone_digest,
        outputs["domain_card"].preprocessing_digest,
    )


def test_the_same_images_are_said_to_be_the_same(toy_domains):
    """Comparing an image with itself would only hide what is new."""
    card = compared(toy_domains).outputs["domain_card"]
    again = compared(toy_domains, previous=card)
    assert ["The target's images are those of the last run."] == again.outputs["drift"].sentences
    assert again.outputs["domains"] == compared(toy_domains).outputs["domains"], "the last run is in drift alone"


@pytest.mark.parametrize(("mean", "nearness"), [(3.0, "near"), (9.0, "far")])
def test_new_images_are_compared_with_the_last_runs(toy_domains, toy_manifest, mean, nearness):
    """Images of the last run are left out, so that the new ones show."""
    card = compared(toy_domains).outputs["domain_card"]
    new = toy_manifest("target", per_class=20, brightness=150, seed=7)
    result = compared(toy_domains, previous=card, target_manifest=new, target_features=table(new, mean=mean))
    drift = result.outputs["drift"]
    assert ("last run", 48, 48, nearness) == (drift.source, drift.source_images, drift.target_images, drift.nearness)
    assert drift.prior_shift is None


def test_old_images_beyond_the_cards_features_are_not_fresh(toy_domains):
    """2,500 old images and 150 shifted ones: the card has features of 500, knows all, and the shift shows."""
    old, new = many(2500, "old"), many(150, "new")
    card = compared(toy_domains, target_manifest=old, target_features=table(old)).outputs["domain_card"]
    both = Manifest(pd.concat([old.frame, new.frame], ignore_index=True))
    features = table(both)
    features.features[2500:] += 3
    result = compared(toy_domains, previous=card, target_manifest=both, target_features=features)
    drift = result.outputs["drift"]
    assert (500, 150, "far") == (drift.source_images, drift.target_images, drift.nearness)


def test_features_of_another_backbone_are_not_compared(toy_domains):
    """The sentence names both."""
    card = compared(toy_domains).outputs["domain_card"]
    features = table(toy_domains.target, mean=3, backbone="other weights")
    (sentence,) = compared(toy_domains, previous=card, target_features=features).outputs["drift"].sentences
    assert "made by another backbone (small_cnn, now small_cnn), by other weights of it" in sentence


def test_equal_inputs_give_equal_files(toy_domains, tmp_path):
    """All three outputs, byte by byte, map included."""
    for number in (1, 2):
        for name, output in compared(toy_domains, params=Params(draws=20, map_images=20)).outputs.items():
            output.save(tmp_path / f"{name}{number}")
    for name in ("domains", "drift", "domain_card"):
        assert (tmp_path / f"{name}1").read_bytes() == (tmp_path / f"{name}2").read_bytes()
