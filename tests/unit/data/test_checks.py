"""Each check column says what it should of a row, and null where there is nothing to say."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.data import checks
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.data.perceptual_hash import ONE_COLOUR
from pipeline.data.profile import DataProfile


def image(name: str, **columns: object) -> dict[str, object]:
    fixed = {"domain": "target", "split": "train", "width": 64, "height": 64, "mode": "RGB", "format": "JPEG"}
    return {"id": name, "name": name, "label": "cat"} | fixed | columns


def manifest(*rows: dict[str, object]) -> Manifest:
    return Manifest.of(pd.DataFrame(list(rows)))


def table_of(target: Manifest, source: Manifest | None = None, max_distance: int | None = 2) -> pd.DataFrame:
    images = checks.both(target, source or Manifest.empty())
    alike = {"max_distance": max_distance, "min_side_px": 48}
    return checks.images_table(images, checks.find_leaks(images, **alike), **alike).set_index("name")


def leaks_of(target: Manifest, source: Manifest | None = None, **limits: int | None) -> list[str]:
    images = checks.both(target, source or Manifest.empty())
    pairs = checks.find_leaks(images, **({"max_distance": 2, "min_side_px": 48} | limits))
    found = [checks.as_leak(images, *pair) for pair in pairs]
    return [f"{leak.kind}: {leak.left} = {leak.right}" for leak in found]


def test_the_same_bytes_in_two_splits_leak():
    """The image nearer to train is told where its copy is; the pair is told once."""
    table = table_of(manifest(image("a", id="x"), image("b", id="x", split="test"), image("c")))
    assert {"a": "target test 'b'"} == table["copy_in"].dropna().to_dict()


def test_a_source_image_in_the_target_test_split_leaks():
    """The model would be pretrained on what it is measured on."""
    target = manifest(image("t", id="x", split="test"))
    source = manifest(image("s", id="x", domain="source"))
    assert ["copy: target test 't' = source train 's'"] == leaks_of(target, source)


def test_the_same_bytes_within_a_split_are_no_leak_but_a_copy():
    """Across domains within train they are neither."""
    target = manifest(image("a", id="x"), image("b", id="x"))
    source = manifest(image("s", id="x", domain="source"))
    assert [] == leaks_of(target, source)
    assert {"b": "a"} == table_of(target, source)["copy_of"].dropna().to_dict()


def test_unreadable_images_neither_leak_nor_conflict():
    """Two empty files have equal bytes; that is not a leak."""
    broken = {"id": "x", "error": "empty file", "width": None, "height": None, "mode": None}
    rows = manifest(image("a", **broken), image("b", split="test", **(broken | {"label": "dog"})), image("c"))
    table = table_of(rows)
    assert [] == leaks_of(rows)
    assert (
        table[["copy_in", "copy_of", "label_conflict", "lookalike_conflict", "shorter_side_px", "odd_mode"]]
        .loc[["a", "b"]]
        .isna()
        .all(axis=None)
    )


def test_a_group_in_two_splits_leaks_within_its_domain():
    """The same group name in the source is another group."""
    target = manifest(image("a", group="patient 1"), image("b", group="patient 1", split="test"))
    source = manifest(image("s", group="patient 1", domain="source"))
    assert ["group: target train 'a' = target test 'b'"] == leaks_of(target, source)


@pytest.mark.parametrize(
    ("given", "other", "side_px", "leaking"),
    [
        (True, "00000000000000f3", 64, True),  # two bits apart
        (True, "00000000000000f7", 64, False),  # three bits apart
        (False, "00000000000000f3", 64, False),  # ingest drew the splits and keeps such images together
        (True, "00000000000000f3", 40, False),  # too small to tell
    ],
)
def test_lookalikes_leak_between_splits_that_the_user_gave(given, other, side_px, leaking):
    """Only close hashes, of large enough images, in given splits."""
    size = {"width": side_px, "height": 64, "split_given": given}
    rows = manifest(image("a", phash="00000000000000f0", **size), image("b", phash=other, split="test", **size))
    assert leaking == bool(leaks_of(rows))


def test_every_lookalike_is_told_and_not_every_pair():
    """Test cards in train and in test share a hash: each is paired with one of the other split."""
    frame = {"phash": "00000000000000f0", "split_given": True}
    names = [f"{number:04}" for number in range(2_000)]
    frames = [image(f"{split} {name}", split=split, **frame) for split in ("test", "train") for name in names]
    few = manifest(*frames[1_998:2_002])
    assert [
        "lookalike: target test 'test 1998' = target train 'train 0000'",
        "lookalike: target test 'test 1998' = target train 'train 0001'",
        "lookalike: target test 'test 1999' = target train 'train 0000'",
    ] == leaks_of(few)
    assert ["train 0000", "train 0001"] == list(table_of(few)["lookalike_in"].dropna().index)

    many = checks.find_leaks(manifest(*frames).frame, max_distance=2, min_side_px=48)
    assert 3_999 == len(many)


def test_lookalikes_can_be_left_alone():
    """No distance, no search; a copy is still a copy."""
    same = {"phash": "0" * 16, "split_given": True}
    rows = manifest(image("a", **same), image("b", split="test", **same))
    assert [] == leaks_of(rows, max_distance=None)


def test_a_label_conflict_names_both_labels_and_the_other_file():
    """Whoever reads it can find both."""
    table = table_of(manifest(image("a", id="x"), image("b", id="x", label="dog"), image("c", id="x", label=None)))
    assert {"a": "'cat' here, 'dog' as b", "b": "'dog' here, 'cat' as a"} == table["label_conflict"].dropna().to_dict()


def test_nearly_the_same_picture_with_two_labels_is_a_conflict():
    """An image that was saved again, or a burst, labelled by two people: each is told of the other; what looks the same
    as one of them is told too. Equal bytes are the other check's, and other pictures nobody's."""
    rows = manifest(
        image("a", phash="00000000000000f0"),
        image("b", phash="00000000000000f3", label="dog"),
        image("b again", phash="00000000000000f3", label="dog"),
        image("cat too", phash="00000000000000f1"),
        image("unlabelled", phash="00000000000000f0", label=None),
        image("far", phash="ffff0000000000f0", label="dog"),
        image("small", phash="00000000000000f0", label="dog", width=40),
        image("x", id="x", phash="aaaa000000000000"),
        image("y", id="x", phash="aaaa000000000000", label="dog"),
    )
    assert {
        "a": "'cat' here, 'dog' as b",
        "b": "'dog' here, 'cat' as a",
        "b again": "'dog' here, 'cat' as a",
        "cat too": "'cat' here, 'dog' as b",
    } == table_of(rows)["lookalike_conflict"].dropna().to_dict()
    assert 0 == table_of(rows, max_distance=None)["lookalike_conflict"].count()


def test_a_conflict_is_told_also_where_others_of_its_look_have_equal_bytes():
    """x and y are one file with two labels, which the other check tells; z, in other bytes, contradicts x."""
    same = {"phash": "00000000000000f0"}
    rows = manifest(
        image("x", id="1", **same), image("y", id="1", label="dog", **same), image("z", label="dog", **same)
    )
    told = table_of(rows)["lookalike_conflict"].dropna().to_dict()
    assert "'dog' here, 'cat' as x" == told["z"]
    assert "'cat' here, 'dog' as z" == told["x"]


def test_pictures_of_one_colour_are_no_lookalikes():
    """A white page and a black frame have one hash; frames of a covered lens may be a class, in train and in test."""
    blank = {"phash": ONE_COLOUR, "split_given": True}
    rows = manifest(image("a", **blank), image("b", split="test", label="dog", **blank))
    assert [] == leaks_of(rows)
    assert 0 == table_of(rows)["lookalike_conflict"].count()


def test_thousands_of_equal_looks_with_two_labels_are_one_comparison():
    """A test card, a logo: every pair of them would be millions."""
    frames = [image(f"{number:05}", phash="0" * 16, label=("cat", "dog")[number % 2]) for number in range(20_000)]
    assert 20_000 == table_of(manifest(*frames))["lookalike_conflict"].count()


def test_the_odd_mode_is_the_one_that_most_of_its_domain_do_not_have():
    """A grey source beside a coloured target is not odd."""
    target = manifest(image("a"), image("b"), image("c", mode="L"))
    source = manifest(image("s", mode="L", domain="source"))
    assert {"c": "L"} == table_of(target, source)["odd_mode"].dropna().to_dict()


def test_sides_and_aspect_ratio_do_not_depend_on_orientation():
    """A tall image and a wide one measure the same."""
    table = table_of(manifest(image("tall", width=10, height=40), image("wide", width=40, height=10)))
    assert [(10, 40, 4.0)] * 2 == list(
        table[["shorter_side_px", "longer_side_px", "aspect_ratio"]].itertuples(index=False, name=None)
    )


def test_both_domains_may_be_empty():
    """No rows, all columns."""
    assert 0 == len(table_of(Manifest.empty()))


SPACE = LabelSpace(classes=["cat", "dog"])


def classes_of(target: Manifest, source: Manifest | None = None) -> dict[str, dict[str, object]]:
    table = checks.classes_table(target, source or Manifest.empty(), SPACE).set_index("class").astype(object)
    return table.where(table.notna(), None).to_dict("index")


def test_classes_are_counted_by_split():
    """A class without an image in a labelled split counts zero there; a split without labels counts nothing."""
    rows = manifest(image("a"), image("b"), image("c", label="dog"), image("d", split="test"), image("e", label=None))
    found = classes_of(rows)
    assert (2, None, 1, None) == tuple(found["cat"][name] for name in ("train", "val", "test", "source"))
    assert (1, None, 0, None) == tuple(found["dog"][name] for name in ("train", "val", "test", "source"))
    assert (1.0, 2.0) == (found["cat"]["times_rarer"], found["dog"]["times_rarer"])


def test_an_unlabelled_target_has_no_counts_and_learns_from_the_source():
    """Null, not zero: an unlabelled target is no fault."""
    source = manifest(image("s", domain="source"))
    found = classes_of(manifest(image("a", label=None)), source)
    assert (None, None, 1) == tuple(found["cat"][name] for name in ("train", "test", "teachers"))
    assert 0 == found["dog"]["teachers"]


def test_where_nothing_is_labelled_no_teacher_is_asked_for():
    """A checkpoint's own head may answer; labels of the test split are for the score."""
    found = classes_of(manifest(image("a", label=None), image("b", split="test")))
    assert (None, 1) == tuple(found["cat"][name] for name in ("teachers", "test"))


def test_val_labels_without_train_labels_count_as_none_in_train():
    """The training labels got lost: that is not an unlabelled target."""
    assert 0 == classes_of(manifest(image("a", split="val")))["cat"]["train"]


def test_drift_is_the_change_of_each_class_share():
    """Classes that came and went are there too."""
    before = DataProfile.of(target=manifest(image("a"), image("b", label="dog")), source=Manifest.empty())
    now = DataProfile.of(target=manifest(image("a"), image("c", label="owl")), source=Manifest.empty())
    table = checks.drift_table(now, before).set_index("class")
    assert {"cat": 0.0, "dog": 0.5, "owl": 0.5} == table["change"].to_dict()


def test_no_labels_no_drift():
    """Nothing to compare, no rows."""
    unlabelled = DataProfile.of(target=manifest(image("a", label=None)), source=Manifest.empty())
    assert checks.drift_table(unlabelled, unlabelled).empty
