"""A bounded number of a manifest's images, always the same ones."""

from __future__ import annotations

import numpy as np

from pipeline.data.manifest import Manifest


def evenly(rows: Manifest, count: int) -> Manifest:
    """``count`` images, or all where there are fewer, at equal steps from the first row to the last.

    Rows are sorted by name: where names begin with the class, as in folders of images, each gives its share.
    """
    if len(rows) <= count:
        return rows
    places = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return rows.where(rows.frame.index.to_series().isin(places))
