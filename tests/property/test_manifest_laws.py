"""Laws of the manifest, for any rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.manifest import Manifest

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
row = st.fixed_dictionaries(
    {
        "id": st.text("0123456789abcdef", min_size=4, max_size=4),
        "name": words,
        "label": st.none() | words,
        "offset": st.none() | st.integers(0, 2**62),
        "width": st.none() | st.integers(1, 2**31),
        "split_given": st.booleans(),
        "camera": st.none() | words,
        "iso": st.none() | st.integers(0, 10**6),
        "flash": st.none() | st.booleans(),
    }
)
rows = st.lists(row, min_size=1, max_size=12, unique_by=lambda row: (row["name"], row["id"]))


@given(rows)
@settings(max_examples=40, deadline=None)
def test_a_manifest_survives_the_round_trip(rows):
    """``load(save(m)) == m``: values, nulls, types, order."""
    manifest = Manifest.of(pd.DataFrame(rows))
    with tempfile.TemporaryDirectory() as folder:
        manifest.save(Path(folder) / "manifest.parquet")
        loaded = Manifest.load(Path(folder) / "manifest.parquet")

    pd.testing.assert_frame_equal(manifest.frame, loaded.frame)


@given(rows, st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(rows, random):
    """``of(shuffle(rows)) == of(rows)``."""
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=random.randrange(2**32))

    pd.testing.assert_frame_equal(Manifest.of(pd.DataFrame(rows)).frame, Manifest.of(shuffled).frame)


@given(rows)
@settings(max_examples=20, deadline=None)
def test_canonical_form_is_stable(rows):
    """``of(of(rows)) == of(rows)``."""
    once = Manifest.of(pd.DataFrame(rows)).frame

    pd.testing.assert_frame_equal(once, Manifest.of(once).frame)
