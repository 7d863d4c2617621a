"""Leaks: what was trained on must not be tested on."""

from __future__ import annotations

import pandas as pd

from pipeline.data.manifest import Manifest
from pipeline.evaluation.leakage import leaked


def manifest(*rows: tuple[str, str, str, str | None], domain: str = "target") -> Manifest:
    frame = pd.DataFrame(rows, columns=["name", "id", "split", "group"])
    return Manifest.of(frame.assign(domain=domain))


def test_equal_content_and_equal_groups_are_leaks():
    """By digest across domains, by group within the target."""
    target = manifest(
        ("train.png", "a", "train", "g1"),
        ("val.png", "b", "val", None),
        ("same-content.png", "a", "test", None),
        ("same-group.png", "c", "test", "g1"),
        ("from-source.png", "d", "test", None),
        ("clean.png", "e", "test", None),
    )
    source = manifest(("s.png", "d", "train", None), ("t.png", "e", "test", None), domain="source")
    assert ["from-source.png", "same-content.png", "same-group.png"] == sorted(leaked(target, source))


def test_images_without_a_group_do_not_share_one():
    target = manifest(("train.png", "a", "train", None), ("test.png", "b", "test", None))
    assert [] == leaked(target, Manifest.empty())
