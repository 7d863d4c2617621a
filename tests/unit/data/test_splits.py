"""Rules of the split, one by one; the laws are in tests/property/test_splits_laws.py."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from pipeline.data import splits
from pipeline.data.manifest import Manifest
from pipeline.data.near_duplicates import components


def images(labels: list[str | None], **columns: list) -> pd.DataFrame:
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(labels))]
    rows = pd.DataFrame(
        {"id": ids, "name": [f"{n:06d}" for n in range(len(labels))], "label": labels, "domain": "target"} | columns
    )
    return Manifest.of(rows).frame


def divide(frame: pd.DataFrame, val_share: float = 0.2, test_share: float = 0.2, seed: int = 0, **more) -> pd.DataFrame:
    parts = components(frame, max_distance=2, min_side_px=48)
    return frame.drop(columns=["split", "split_given"]).join(
        splits.assign(frame, parts, val_share=val_share, test_share=test_share, seed=seed, **more)
    )


def counts(frame: pd.DataFrame) -> dict[str, int]:
    return frame["split"].value_counts().to_dict()


def test_the_shares_are_kept_on_average():
    """A fifth of 2,000 to test, a fifth of the rest to val, give or take chance."""
    found = counts(divide(images(["a"] * 1000 + ["b"] * 1000)))

    assert abs(found["test"] - 400) < 60
    assert abs(found["val"] - 320) < 60


def test_the_users_split_is_kept():
    """Nothing is drawn where all three are given."""
    given = ["train", "val", "test", "train"]
    divided = divide(images(["a", "a", "a", "b"], split=given))

    assert given == divided["split"].tolist()
    assert divided["split_given"].all()


def test_val_is_drawn_from_train_where_only_it_is_missing():
    """The user's test stays what it is; a val image is no longer the user's train."""
    divided = divide(images(["a"] * 20, split=["train"] * 15 + ["test"] * 5))

    assert {"train": 12, "val": 3, "test": 5} == counts(divided)
    assert ["test"] * 5 == divided["split"].tolist()[15:]
    assert [False] * 3 == divided[divided["split"] == "val"]["split_given"].tolist()


def test_test_is_drawn_from_train_where_only_it_is_missing():
    """A set with train and val keeps its val; the final score needs images of its own."""
    divided = divide(images(["a"] * 400, split=["train"] * 300 + ["val"] * 100))

    assert 100 == counts(divided)["val"]
    assert abs(counts(divided)["test"] - 60) < 25


def test_few_labels_give_one_in_five_to_val():
    """Five labels per class and a val share of 0.2: one each, and no unlabelled image."""
    labels = [str(digit) for digit in range(10) for _ in range(5)] + [None] * 200
    divided = divide(images(labels, split=["train"] * 250))
    val = divided[divided["split"] == "val"]

    assert {str(digit): 1 for digit in range(10)} == val["label"].value_counts().to_dict()


def test_a_class_of_three_is_in_every_split():
    """The smallest class that can be, is."""
    divided = divide(images(["a"] * 3 + ["b"] * 3 + ["c"] * 500))

    for label in ("a", "b"):
        assert {"train", "val", "test"} == set(divided[divided["label"] == label]["split"])


def test_a_share_of_nothing_draws_nothing():
    """No test share, no test split, not even by repair."""
    assert {"train": 10} == counts(divide(images(["a"] * 10), val_share=0, test_share=0))


def test_the_test_split_does_not_depend_on_the_seed_or_on_labels():
    """Models of different seeds are measured on the same images; labelling an image does not move it."""
    labelled, unlabelled = images(["a"] * 300), images(["a"] * 200 + [None] * 100)
    test = [divide(frame, seed=seed)["split"] == "test" for frame in (labelled, unlabelled) for seed in (0, 1)]

    assert all(test[0].equals(other) for other in test[1:])
    assert not divide(labelled, seed=0)["split"].equals(divide(labelled, seed=1)["split"])


def test_groups_and_exact_duplicates_stay_together():
    """No group and no id is in two splits."""
    frame = images(["a", "b"] * 60, group=[f"g{number // 6}" for number in range(120)])
    frame.loc[1, "id"] = frame.loc[119, "id"]
    divided = divide(frame)

    assert 1 == divided.groupby("group")["split"].nunique().max()
    assert divided.loc[1, "split"] == divided.loc[119, "split"]
    assert {"train", "val", "test"} == set(divided["split"])


def test_an_image_without_a_split_follows_its_duplicate():
    """Where the user put one of two near-duplicates into test, the other goes there too; the user's train stays."""
    hashes = ["00ff00ff00ff00ff"] * 3
    frame = images(["a"] * 3, split=["test", None, "train"], phash=hashes, width=[99] * 3, height=[99] * 3)
    divided = divide(frame)

    assert ["test", "test", "train"] == divided["split"].tolist()
    assert [True, False, True] == divided["split_given"].tolist()


def test_what_another_domain_holds_out_is_held_out():
    """A source image that is also a target test image must not be trained on."""
    frame = images(["a"] * 10)
    divided = divide(frame, held_out={4: "test", 5: "val"})

    assert ["test", "val"] == divided["split"].tolist()[4:6]


def test_unreadable_images_count_for_nothing():
    """They stay in train and fill no class's quota."""
    divided = divide(images(["a"] * 4, error=[None, None, None, "is empty"]))

    assert "train" == divided["split"].iloc[3]
    assert {"train", "val", "test"} == set(divided["split"].iloc[:3])


def test_rows_may_come_with_any_index():
    """The result is aligned with the images given."""
    frame = images(["a"] * 10)
    shifted = frame.set_index(np.arange(100, 110))
    parts = np.arange(10)
    options = {"val_share": 0.2, "test_share": 0.2, "seed": 0}

    expected = splits.assign(frame, parts, **options)["split"].tolist()
    found = splits.assign(shifted, parts, **options)

    assert expected == found["split"].tolist()
    assert shifted.index.equals(found.index)
