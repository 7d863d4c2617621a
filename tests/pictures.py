"""Pictures in grey that tests of looks share: made ones, and real photos where they are present."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL_DATA = Path(os.environ.get("GRAFTLINE_REALDATA", Path(__file__).parents[2] / "shared" / "data"))


def scene(
    width: int = 320, height: int = 300, seed: int = 0, *, rectangles: int = 150, sides: tuple[int, int] = (2, 60)
) -> Image.Image:
    """Overlapping rectangles of any grey: edges at every scale, as photos have."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width), 90, dtype=np.uint8)
    for _ in range(rectangles):
        left, top = rng.integers(0, width), rng.integers(0, height)
        pixels[top : top + rng.integers(*sides), left : left + rng.integers(*sides)] = rng.integers(20, 255)
    return Image.fromarray(pixels)


def real_photos(archive: str, count: int) -> list[Image.Image]:
    """So many of a real set's photos, evenly over it; a skip that says where it was looked for."""
    file = REAL_DATA / f"{archive}.tar"
    if not file.is_file():
        pytest.skip(f"no {file.name} in {REAL_DATA}")
    with tarfile.open(file) as tar:
        photos = sorted((m for m in tar if m.name.lower().endswith((".jpg", ".png"))), key=lambda member: member.name)
        chosen = photos[:: len(photos) // count][:count]
        return [Image.open(io.BytesIO(tar.extractfile(member).read())).convert("L") for member in chosen]
