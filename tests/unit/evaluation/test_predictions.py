"""Predictions on disk: what was answered, what was right, and what cannot be known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.data.manifest import Manifest
from pipeline.evaluation.predictions import Predictions

CLASSES = ["cat", "dog"]
MANIFEST = Manifest.of(
    pd.DataFrame({"id": ["a", "b", "c"], "name": ["1.png", "2.png", "3.png"], "label": ["cat", "cat", None]})
)
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], dtype=np.float32)


def test_one_row_per_image_and_no_verdict_without_a_label(tmp_path):
    """``correct`` is null where the image has no label; every class has its column."""
    Predictions.of(MANIFEST, PROBABILITIES, CLASSES, ["dog", "cat", "cat"]).save(tmp_path / "p.parquet")
    frame = Predictions.load(tmp_path / "p.parquet").frame
    assert ["cat", "dog", "cat"] == frame["predicted"].tolist()
    assert [True, False] == frame["correct"].tolist()[:2]
    assert pd.isna(frame["correct"][2])
    assert pd.isna(frame["label"][2])
    assert ["dog", "cat", "cat"] == frame["champion_predicted"].tolist()
    np.testing.assert_array_equal(PROBABILITIES, frame[["probability_cat", "probability_dog"]])
    np.testing.assert_array_equal(PROBABILITIES.max(1), frame["confidence"])


def test_without_a_champion_its_column_is_null():
    assert Predictions.of(MANIFEST, PROBABILITIES, CLASSES).frame["champion_predicted"].isna().all()


def test_no_test_images_make_an_empty_table(tmp_path):
    Predictions.of(Manifest.empty(), np.zeros((0, 2), np.float32), CLASSES).save(tmp_path / "p.parquet")
    frame = Predictions.load(tmp_path / "p.parquet").frame
    assert (0, 9) == frame.shape


def test_equal_predictions_make_equal_files(tmp_path):
    for name in ("a", "b"):
        Predictions.of(MANIFEST, PROBABILITIES, CLASSES).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
