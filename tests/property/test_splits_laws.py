"""Laws of the split, for any images: disjoint, blind to order, stable when images arrive."""

from __future__ import annotations

import hashlib

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import seeding
from pipeline.data import splits
from pipeline.data.manifest import Manifest
from pipeline.data.near_duplicates import components

shares = st.sampled_from([0.0, 0.1, 0.2, 0.4])


@st.composite
def images(draw, max_images: int = 60, with_groups: bool = True) -> pd.DataFrame:
    """Images of up to four classes, some unlabelled, unreadable, duplicated, grouped or alike."""
    count = draw(st.integers(1, max_images))
    numbers = draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count))
    row = st.fixed_dictionaries(
        {
            "label": st.sampled_from(["a", "a", "b", "c", "d", None]),
            "group": st.sampled_from([None, None, None, "g", "h"]) if with_groups else st.none(),
            "looks": st.sampled_from([None, None, None, None, 1, 2]) if with_groups else st.none(),
            "error": st.sampled_from([None] * 9 + ["is empty"]),
        }
    )
    rows = []
    for position, (number, more) in enumerate(
        zip(numbers, draw(st.lists(row, min_size=count, max_size=count)), strict=True)
    ):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        phash = digest[:16] if more["looks"] is None else f"{more['looks'] * 0xFFFF:016x}"
        fields = {"label": more["label"], "group": more["group"], "error": more["error"]}
        rows.append(
            {"id": digest, "name": f"{position:04d}", "phash": phash, "width": 64, "height": 64, "domain": "target"}
            | fields
        )
    return Manifest.of(pd.DataFrame(rows)).frame


def divide(frame: pd.DataFrame, val_share: float = 0.2, test_share: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """The images with their split and component, by name."""
    parts = components(frame, max_distance=2, min_side_px=48)
    assigned = splits.assign(frame, parts, val_share=val_share, test_share=test_share, seed=seed)
    return frame.drop(columns=["split", "split_given"]).join(assigned).assign(part=parts).set_index("name")


@given(images(), shares, shares)
@settings(max_examples=50, deadline=None)
def test_what_belongs_together_is_in_one_split(frame, val_share, test_share):
    """No id, no group, no near-duplicate is in two splits."""
    divided = divide(frame, val_share, test_share)
    readable = divided[divided["error"].isna()]

    for column in ("id", "group", "part", "phash"):
        assert not (readable.groupby(column)["split"].nunique() > 1).any()


@given(images(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_images_does_not_matter(frame, random):
    """Renaming and reordering files moves no image."""
    shuffled = frame.sample(frac=1, random_state=random.randrange(2**32)).reset_index(drop=True)

    assert divide(frame)["split"].to_dict() == divide(shuffled)["split"].to_dict()


@given(images(with_groups=False), st.sampled_from([0.1, 0.2, 0.4]), shares)
@settings(max_examples=50, deadline=None)
def test_every_class_of_three_has_train_and_val(frame, val_share, test_share):
    """Three different labelled images suffice, where a share is asked for at all."""
    frame = frame.drop_duplicates("id", ignore_index=True)
    divided = divide(frame, val_share, test_share)
    labelled = divided[divided["label"].notna() & divided["error"].isna()]
    for _, members in labelled.groupby("label"):
        if len(members) >= splits.ENOUGH_FOR_EACH:
            assert {"train", "val"} <= set(members["split"])
            assert test_share == 0 or "test" in set(members["split"])


def _settled(divided: pd.DataFrame) -> pd.Series:
    """Which images are unlabelled, or of a class that has a test image by its hash alone and two that are not."""
    readable = divided[divided["error"].isna()]
    in_test = pd.Series([seeding.unit(0, "test", id_) < 0.2 for id_ in readable["id"]], readable.index, dtype=bool)
    by_class = in_test.groupby(readable["label"]).agg(["sum", "size"])
    settled = by_class[(by_class["sum"] >= 1) & (by_class["size"] - by_class["sum"] >= 2)].index
    return divided["error"].isna() & (divided["label"].isna() | divided["label"].isin(settled))


@given(images(with_groups=False), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_arrivals_move_no_image_into_or_out_of_test(frame, kept):
    """In a class that needed no repair the test part only grows, and only by newcomers."""
    frame = frame.drop_duplicates("id", ignore_index=True)
    before = divide(frame.head(kept))
    after = divide(frame).loc[before.index]
    settled = _settled(before)

    assert (before["split"] == "test")[settled].equals((after["split"] == "test")[settled])


@given(st.integers(0, 10**6), st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_arrivals_in_a_large_class_move_nobody(first, newcomers):
    """Beyond small strata the law is exact for val as well."""
    ids = [hashlib.sha256(str(first + number).encode()).hexdigest() for number in range(90 + newcomers)]
    rows = pd.DataFrame({"id": ids, "label": "a", "domain": "target"}).assign(name=ids)
    after = divide(Manifest.of(rows).frame)["split"]
    before = divide(Manifest.of(rows.head(90)).frame)["split"]

    assert before.to_dict() == after[before.index].to_dict()


@given(images(with_groups=False))
@settings(max_examples=40, deadline=None)
def test_labelling_moves_no_image_into_or_out_of_test(frame):
    """The test part is a matter of content: labels change it by repair only."""
    frame = frame.drop_duplicates("id", ignore_index=True)
    unlabelled = frame.assign(label=None).astype({"label": "str"})
    labelled = divide(frame)
    settled = _settled(labelled)

    assert (labelled["split"] == "test")[settled].equals((divide(unlabelled)["split"] == "test")[settled])
