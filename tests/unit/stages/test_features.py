"""The features stage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.features.cache import FeatureCache
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import random_weights
from pipeline.stages.features import Params, run


def test_the_line_says_what_was_new(toy_domains: Any, tmp_path: Path) -> None:
    """Counts with units: all computed at first, all cached the second time."""
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    given = {"backbone": start, "source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    context = toy_domains.context(cache=tmp_path / "cache")
    lines = [run(Params(), context, **given).line for _ in range(2)]
    assert [
        "120 images × 256 features · 120 computed, 0 cached",
        "120 images × 256 features · 0 computed, 120 cached",
    ] == lines


def test_tables_are_aligned_with_their_manifests(toy_domains: Any) -> None:
    """One table per domain, one row per image, in the manifest's order."""
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    given = {"source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    outputs = run(Params(), toy_domains.context(), backbone=start, **given).outputs
    assert list(given["source_manifest"].frame["id"]) == outputs["source_features"].ids
    assert list(given["target_manifest"].frame["id"]) == outputs["target_features"].ids


def test_features_of_recipes_given_up_are_removed(toy_domains: Any, tmp_path: Path) -> None:
    """What no run has asked for in ninety days; what this run has asked for, as a choice among backbones, is kept."""
    context = toy_domains.context(cache=tmp_path / "cache")
    given = {"source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    for batch_size in (8, 16):
        run(Params(batch_size=batch_size), context, backbone=start, **given)
    given_up, asked_for = (tmp_path / "cache/features").iterdir()
    for folder in (given_up, asked_for):
        os.utime(folder, (0, 0))
    FeatureCache(asked_for)
    run(Params(batch_size=32), context, backbone=start, **given)
    assert 2 == len(list((tmp_path / "cache/features").iterdir()))
    assert asked_for.exists()
