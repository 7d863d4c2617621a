"""Which images belong together, so that no split parts them: the same bytes, the same group, nearly the same picture.

Pictures are compared by perceptual hash (64 bits, pHash; Zauner 2010): few differing bits, nearly the same picture.
All pairs within a small Hamming distance are found by multi-index hashing (Norouzi, Punjani and Fleet 2012): of d + 1
pieces of a hash at least one is untouched by d flipped bits, so only images that share a piece need be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.data.perceptual_hash import ONE_COLOUR

HASH_BITS = 64


def near_pairs(hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """All pairs of positions i < j whose uint64 hashes differ in at most ``max_distance`` bits: int64 (pairs, 2)."""
    found = [_pairs_sharing(piece, hashes, max_distance) for piece in _pieces(hashes, max_distance + 1)]
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *found])
    return np.unique(pairs, axis=0)


def _pieces(hashes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Cut each hash into ``count`` pieces of nearly equal width."""
    edges = np.linspace(0, HASH_BITS, count + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        yield (hashes >> np.uint64(low)) & mask


def _pairs_sharing(piece: np.ndarray, hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """Close pairs among hashes with the same ``piece``: sorted by it, they are neighbours 1, 2, 3, … places apart."""
    order = np.argsort(piece, kind="stable")
    piece, hashes = piece[order], hashes[order]
    found, left = [], np.arange(len(order))
    for step in range(1, len(order)):
        left = left[left + step < len(order)]
        left = left[piece[left] == piece[left + step]]
        if not len(left):
            break
        close = left[np.bitwise_count(hashes[left] ^ hashes[left + step]) <= max_distance]
        found.append(np.stack([order[close], order[close + step]], axis=1))
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *found])
    return np.sort(pairs, axis=1)


def comparable(images: pd.DataFrame, min_side_px: int) -> pd.DataFrame:
    """Those whose looks tell them apart: with a shorter side of ``min_side_px`` (thumbnails of different things look
    alike), and not of one colour, as the frames of a covered lens are, which may well be a class of their own.
    """
    large = images[["width", "height"]].min(axis=1) >= min_side_px
    return images[large & images["phash"].notna() & (images["phash"] != ONE_COLOUR)]


def hashes_of(images: pd.DataFrame) -> np.ndarray:
    """Perceptual hashes, uint64 of shape (rows,)."""
    return np.array([int(text, 16) for text in images["phash"]], dtype=np.uint64)


def components(images: pd.DataFrame, *, max_distance: int, min_side_px: int) -> np.ndarray:
    """The number of the component each row belongs to, int64 of shape (rows,).

    Rows are joined by equal ``id``, by equal ``group`` within one ``domain``, and by perceptual hashes at most
    ``max_distance`` bits apart where both images are :func:`comparable`. Unreadable rows stand alone.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    readable = images["error"].isna()
    links = [
        _links_by_value(images["id"].where(readable)),
        _links_by_value((images["domain"] + "/" + images["group"]).where(readable & images["group"].notna())),
        _links_by_looks(images[readable], max_distance, min_side_px),
    ]
    left, right = np.concatenate(links).T
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(images), len(images)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _links_by_value(values: pd.Series) -> np.ndarray:
    """Link each row that has a value to the first row with that value."""
    codes, _ = pd.factorize(values)
    positions = np.flatnonzero(codes >= 0)
    _, first, inverse = np.unique(codes[positions], return_index=True, return_inverse=True)
    return np.stack([positions[first[inverse]], positions], axis=1)


def _links_by_looks(images: pd.DataFrame, max_distance: int, min_side_px: int) -> np.ndarray:
    """Link rows whose pictures are nearly the same; equal hashes are compared once."""
    alike = comparable(images, min_side_px)
    unique, first, inverse = np.unique(hashes_of(alike), return_index=True, return_inverse=True)
    positions = alike.index.to_numpy(dtype=np.int64)
    equal = np.stack([positions[first[inverse]], positions], axis=1)
    return np.concatenate([equal, positions[first[near_pairs(unique, max_distance)]]])
