"""What the report says of labels in doubt."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.reporting import suspects


def said(folder: Path, **changes: Any) -> list[str]:
    review = {"images": 1204, "suspects": 0, "accuracy": 0.953, "trusted": True, "unjudged": [], "named": []}
    found = suspects.labels(folder, {"label_review": [review | changes]})
    assert found is not None
    assert found.shown == []
    return found.sentences


def test_none_in_doubt(tmp_path: Path) -> None:
    """And how far the classifier that says so is to be trusted."""
    (sentence,) = said(tmp_path)
    assert (
        sentence == "None of 1,204 labels in train and val; the classifier that judges them agrees with 95.3% of all."
    )


def test_a_judge_near_chance(tmp_path: Path) -> None:
    """It doubts nothing, which says nothing of the labels."""
    (sentence,) = said(tmp_path, trusted=False, accuracy=0.318)
    assert sentence.startswith("No label is doubted: the classifier that would judge the 1,204 in train and val agrees")
    assert "31.8% of them, hardly more than by chance" in sentence


def test_a_review_of_an_earlier_release(tmp_path: Path) -> None:
    """Its report can be written anew."""
    review = {"images": 12, "suspects": 0, "accuracy": 0.9, "unjudged": ["rare"], "named": []}
    found = suspects.labels(tmp_path, {"label_review": [review]})
    assert found is not None
    assert "Not judged, for want of labelled images: rare." == found.sentences[-1]


@pytest.mark.parametrize("metrics", [{}, {"label_review": []}])
def test_without_a_review(tmp_path: Path, metrics: dict[str, Any]) -> None:
    """Too few labels, or a review that was turned off."""
    found = suspects.labels(tmp_path, metrics)
    assert found is not None
    assert [suspects.NOT_JUDGED] == found.sentences
