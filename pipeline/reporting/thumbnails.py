"""Small pictures of images, as data URIs that lie inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore, decode
from pipeline.data.manifest import Manifest

SIDE_PX = 168
"""The longer side of a thumbnail; smaller images are kept as they are."""

TINY_PX = 64
"""Images no longer than this are shown enlarged with visible pixels instead of blurred."""


class Thumbnail(NamedTuple):
    """A picture as a data URI; ``is_tiny`` asks for crisp pixels when it is enlarged."""

    uri: str
    is_tiny: bool


def of_pixels(pixels: np.ndarray) -> Thumbnail:
    """``pixels`` is uint8 (height, width, 3). Small ones become PNG, unchanged; others JPEG, shrunk."""
    image = Image.fromarray(pixels)
    longer = max(image.size)
    if longer <= SIDE_PX:
        return Thumbnail(_uri(image, "PNG"), is_tiny=longer <= TINY_PX)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return Thumbnail(_uri(image, "JPEG", quality=82), is_tiny=False)


def _uri(image: Image.Image, form: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, optimize=True, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def of_images(workspace: Path, manifest: Manifest, ids: Iterable[str]) -> dict[str, Thumbnail]:
    """Thumbnails by image id. An image that is not in the manifest, or whose file cannot be read any more, has none."""
    frame = manifest.frame.drop_duplicates("id").set_index("id", drop=False)
    store = ImageStore(workspace, workers=1)
    found: dict[str, Thumbnail] = {}
    for image_id in ids:
        if image_id not in frame.index:
            continue
        row = Manifest(frame.loc[[image_id]].reset_index(drop=True))
        try:
            found[image_id] = of_pixels(decode(next(store.contents(row))))
        except (DataError, OSError):  # changed or gone since the run, or broken: the caption stays
            continue
    return found
