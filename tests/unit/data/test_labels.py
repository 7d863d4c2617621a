"""The label space and the map onto it."""

from __future__ import annotations

import pytest

from pipeline.core.errors import DataError, ParamsError
from pipeline.data.labels import LabelSpace, check_label_map


def test_classes_are_the_targets_in_natural_order():
    """People's order: 2 before 10, whatever the alphabet says."""
    assert ["0", "2", "10"] == LabelSpace.between(["10", "2", "0"], []).classes
    assert ["class 2", "class 10"] == LabelSpace.between(["class 10", "class 2"], []).classes


def test_classes_that_do_not_meet_are_listed():
    """Either side's own classes are named."""
    space = LabelSpace.between(["cat", "dog"], ["dog", "horse"])

    assert (["cat", "dog"], ["horse"], ["cat"], ["dog"]) == (
        space.classes,
        space.source_only,
        space.target_only,
        space.shared,
    )


def test_an_unlabelled_target_takes_the_sources_classes():
    """Unsupervised adaptation answers with what the source knows."""
    space = LabelSpace.between([], ["b", "a"])

    assert (["a", "b"], [], []) == (space.classes, space.source_only, space.target_only)


def test_without_a_source_nothing_is_missing_there():
    """No source is not a source without classes."""
    assert [] == LabelSpace.between(["a"], []).target_only


def test_no_label_anywhere_is_the_users_to_mend():
    """There is nothing to learn."""
    with pytest.raises(DataError) as caught:
        LabelSpace.between([], [])

    assert "labels in the target or in the source" == caught.value.expected
    assert "ingest.target and ingest.source in params.yaml" == caught.value.where


def test_indices_follow_the_order_of_classes():
    """Class numbers are positions in ``classes``."""
    assert [1, 0, 1] == LabelSpace(classes=["a", "b"]).indices(["b", "a", "b"]).tolist()


@pytest.mark.parametrize(
    ("label_map", "found", "remedy"),
    [
        ({"bikee": "bicycle"}, "'bikee'", "Did you mean 'bike'?"),
        ({"bike": "bycicle"}, "'bycicle'", "Did you mean 'bicycle'?"),
        ({"xyz": "bicycle"}, "'xyz'", "Use names that occur, or take the entry out."),
    ],
)
def test_unknown_names_in_the_map_are_refused(label_map, found, remedy):
    """The message names the unknown class and the nearest known one."""
    with pytest.raises(ParamsError) as caught:
        check_label_map(label_map, ["bike", "car"], ["bicycle", "automobile"])

    assert (found, remedy) == (caught.value.found, caught.value.remedy)
    assert "ingest.label_map in params.yaml" in caught.value.where


def test_an_unlabelled_target_accepts_any_new_name():
    """Its classes are the mapped names."""
    check_label_map({"bike": "bicycle"}, ["bike"], [])


def test_the_space_survives_the_round_trip(tmp_path):
    """Saved and loaded, it is equal."""
    space = LabelSpace.between(["cat"], ["dog"])
    space.save(tmp_path / "labels.json")

    assert space == LabelSpace.load(tmp_path / "labels.json")
