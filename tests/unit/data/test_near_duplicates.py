"""Near-duplicates by perceptual hash, and the components they make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data.manifest import Manifest
from pipeline.data.near_duplicates import components, near_pairs
from pipeline.data.perceptual_hash import phash


def images(rows: list[dict]) -> pd.DataFrame:
    base = {"domain": "target", "width": 100, "height": 100}
    rows = [
        base | {"id": f"{n:064x}", "name": f"{n:03d}", "phash": f"{(n * 0x9E3779B97F4A7C15) % 2**64:016x}"} | row
        for n, row in enumerate(rows)
    ]
    return Manifest.of(pd.DataFrame(rows)).frame


def together(frame: pd.DataFrame, **options: int) -> list[set[int]]:
    numbers = components(frame, **({"max_distance": 2, "min_side_px": 48} | options))
    return sorted((set(np.flatnonzero(numbers == number)) for number in set(numbers)), key=min)


@pytest.mark.parametrize("max_distance", [0, 1, 2, 5, 8])
def test_all_close_pairs_are_found_and_no_other(max_distance):
    """The same pairs as by comparing each with each."""
    random = np.random.default_rng(max_distance)
    centres = random.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in random.choice(64, count, False)) for count in range(6)], dtype=np.uint64
    )
    hashes = np.unique(np.concatenate([centres, *(centres ^ flip for flip in flips)]))
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = np.argwhere(np.triu(distances <= max_distance, k=1))

    np.testing.assert_array_equal(expected, near_pairs(hashes, max_distance))


def test_no_hashes_make_no_pairs():
    """An empty set is searched without complaint."""
    assert (0, 2) == near_pairs(np.array([], dtype=np.uint64), 2).shape


def test_equal_bytes_and_equal_groups_are_joined():
    """Exact duplicates always; groups within one domain only."""
    frame = images(
        [{"id": "d" * 64}, {"id": "d" * 64}, {"group": "p1"}, {"group": "p1"}, {"group": "p1", "domain": "source"}]
    )

    assert [{0, 1}, {2, 3}, {4}] == together(frame)


def test_links_are_chained():
    """a resembles b, b shares a group with c: all three stay together."""
    frame = images([{"phash": "00000000000000ff"}, {"phash": "00000000000000fe", "group": "g"}, {"group": "g"}])

    assert [{0, 1, 2}] == together(frame)


def test_distance_and_size_decide():
    """Three bits apart is two pictures; a thumbnail is compared by its bytes only."""
    far = images([{"phash": "0000000000000000"}, {"phash": "0000000000000007"}])
    small = images([{"phash": "0000000000000000"}, {"phash": "0000000000000000", "height": 32}])

    assert [{0}, {1}] == together(far)
    assert [{0, 1}] == together(far, max_distance=3)
    assert [{0}, {1}] == together(small)
    assert [{0, 1}] == together(small, min_side_px=32)


def test_pictures_of_one_colour_are_joined_by_their_bytes_alone():
    """A white page and a black frame have one hash, and so have the frames of a class that shows nothing."""
    blank = {"phash": phash(Image.new("L", (64, 64), 255))}
    frame = images([blank, blank, blank | {"id": "d" * 64}, blank | {"id": "d" * 64}])

    assert [{0}, {1}, {2, 3}] == together(frame)


def test_unreadable_images_stand_alone():
    """Two empty files have equal bytes; that says nothing."""
    frame = images(
        [{"id": "e" * 64, "error": "is empty", "phash": None}, {"id": "e" * 64, "error": "is empty", "phash": None}]
    )

    assert [{0}, {1}] == together(frame)
