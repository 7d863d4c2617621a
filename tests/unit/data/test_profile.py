"""Profiles count what is there, and their difference reads as a sentence."""

from __future__ import annotations

import pandas as pd

from pipeline.data.manifest import Manifest
from pipeline.data.profile import DataProfile, changes, in_words


def images(count: int, label: str | None = "7", **columns: object) -> pd.DataFrame:
    """``count`` rows that differ in id and name."""
    names = [f"{label}/{number}.png" for number in range(count)]
    fixed = {"domain": "target", "split": "train", "width": 8, "height": 9, "mode": "L", "format": "PNG"}
    return pd.DataFrame({"id": names, "name": names}).assign(label=label, **(fixed | columns))


def profile_of(*frames: pd.DataFrame) -> DataProfile:
    return DataProfile.of(target=Manifest.of(pd.concat(frames, ignore_index=True)), source=Manifest.empty())


def test_counts_images_labels_and_splits():
    """Unlabelled images count as images, not as labelled."""
    target = profile_of(images(3), images(1, "8", split="test"), images(2, None)).target
    assert (6, 4, {"7": 3, "8": 1}, {"test": 1, "train": 5}) == (
        target.images,
        target.labelled,
        target.classes,
        target.splits,
    )


def test_label_shares_are_of_the_labelled_images():
    """Shares sum to one whatever else is unlabelled."""
    assert {"7": 0.75, "8": 0.25} == profile_of(images(3), images(1, "8"), images(9, None)).target.label_shares


def test_sizes_are_quantiles_that_occur():
    """No interpolation: a size of 9.5 px does not exist."""
    width = profile_of(images(1, width=8), images(1, "8", width=11)).target.width_px
    assert (8, 8, 11) == (width.min, width.median, width.max)


def test_an_empty_profile_means_no_last_run(tmp_path):
    """It survives its file, and nothing is said to have changed since."""
    DataProfile.empty().save(tmp_path / "profile.json")
    loaded = DataProfile.load(tmp_path / "profile.json")
    assert loaded.is_empty
    assert [] == changes(loaded, profile_of(images(3)))


def test_a_profile_survives_its_file(tmp_path):
    """Saving and loading gives an equal profile."""
    profile = profile_of(images(3), images(2, None))
    profile.save(tmp_path / "profile.json")
    assert profile == DataProfile.load(tmp_path / "profile.json")


def test_the_order_of_rows_does_not_matter():
    """Equal images, equal digests."""
    assert profile_of(images(3), images(2, "8")) == profile_of(images(2, "8"), images(3)[::-1])


def test_changes_read_as_a_sentence():
    """New images, new labels, and the class they went to."""
    found = changes(profile_of(images(5)), profile_of(images(10)))
    assert (
        "target: +5 images, +5 labelled, class '7' 5 → 10, split 'train' 5 → 10, mode 'L' 5 → 10, format 'PNG' 5 → 10"
        == (in_words(found))
    )


def test_one_image_is_singular_and_fewer_are_negative():
    """-1 image, not -1 images."""
    assert "-1 image" == changes(profile_of(images(5)), profile_of(images(4)))[0].sentence


def test_labelling_what_was_there_changes_labels_only():
    """The images stay, the labels grow."""
    before = images(4, None)
    after = before.assign(label=["7", "7", "8", None])
    found = changes(profile_of(before), profile_of(after))
    assert "target: +3 labelled, class '7' 0 → 2, class '8' 0 → 1" == in_words(found)


def test_exchanged_labels_are_seen_though_no_count_changed():
    """Counts alone would call two swapped labels no change."""
    before = images(2).assign(label=["7", "8"])
    found = changes(profile_of(before), profile_of(before.assign(label=["8", "7"])))
    assert "target: other images or labels, in the same number" == in_words(found)


def test_no_difference_is_no_change():
    """Equal profiles."""
    assert "no change" == in_words(changes(profile_of(images(2)), profile_of(images(2))))
