"""A picture of both domains: their features in two dimensions, so that what lies together is seen together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import Document

DIRECTIONS = 50
"""Principal directions that t-SNE starts from, as its authors advise: the rest is mostly noise, and costs time."""

PERPLEXITY = 30
"""About how many neighbours a point looks at; a quarter of the points where there are few."""

Side = Literal["source", "target"]


class DomainMap(Document):
    """One entry per point in each list; the axes have no unit, only nearness means something."""

    x: list[float]
    y: list[float]
    domain: list[Side]
    label: list[str | None]


def domain_map(
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    source_labels: Sequence[str | None],
    target_labels: Sequence[str | None],
    *,
    seed: int,
) -> DomainMap:
    """t-SNE (van der Maaten & Hinton 2008) of principal components [n, d], most important first, both together.

    t-SNE and not the first two components: with ten classes those show a cloud. It keeps neighbourhoods; sizes of
    clusters and gaps between them mean nothing (Wattenberg et al. 2016, https://distill.pub/2016/misread-tsne).
    """
    from sklearn.manifold import TSNE

    rows = np.concatenate([source, target])[:, :DIRECTIONS].astype(np.float32)
    found = TSNE(
        perplexity=min(PERPLEXITY, len(rows) / 4),
        init=_start(rows),
        random_state=seed % 2**32,
        max_iter=500,
    ).fit_transform(rows)
    x, y = (np.round(column.astype(np.float64), 2).tolist() for column in found.T)
    sides: list[Side] = ["source", "target"]
    domain = [side for side, part in zip(sides, (source, target), strict=True) for _ in part]
    return DomainMap(x=x, y=y, domain=domain, label=[*source_labels, *target_labels])


def _start(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first two components, made small: keeps the large-scale order (Kobak & Berens 2019)."""
    start = np.zeros((len(rows), 2), dtype=np.float32)
    start[:, : rows.shape[1]] = rows[:, :2]
    return start * (1e-4 / (start[:, 0].std() or 1))
