"""From a manifest row to pixels. The one place where image bytes are decoded."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import PIL.features
from PIL import Image, ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.core import digests
from pipeline.core.ahead import mapped_ahead
from pipeline.core.errors import DataError
from pipeline.core.files import NotAFileError, reading

if TYPE_CHECKING:
    from pipeline.data.manifest import Manifest

Made = TypeVar("Made")

MAX_PIXELS = 2**26
"""Larger images (67 megapixels) are refused: they are decompression bombs, or scans to be cut into tiles first."""


CODECS = ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif", "zlib", "libtiff")


def decoders() -> list[Any]:
    """What decodes images, as JSON can hold it: another may see other pixels in the same bytes, or none.

    Versions of Pillow and of what it uses, None for what is not there; what a caller has told it to put up with; and
    whose formats beside its own it knows.
    """
    versions = [PIL.__version__, *(PIL.features.version(name) for name in CODECS)]
    openers = {getattr(opener, "__module__", "") for opener, _ in Image.OPEN.values()}
    others = sorted(opener for opener in openers if not opener.startswith("PIL."))
    return [versions, ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, others]


class TooManyPixelsError(OSError):
    """The header promises more than :data:`MAX_PIXELS`; raised before anything is decompressed."""


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """The image in ``content``, its header read and its size found harmless, its pixels not yet decoded.

    Raises:
        TooManyPixelsError: see :data:`MAX_PIXELS`.
        PIL.UnidentifiedImageError, OSError: not an image, or a broken header.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"more than {MAX_PIXELS:,} pixels") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise TooManyPixelsError(f"{image.width:,} × {image.height:,} pixels, more than {MAX_PIXELS:,}")
        yield image


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels as every part of Graftline sees them: uint8 of shape (height, width, 3), sRGB. See :func:`as_rgb`."""
    return np.asarray(as_rgb(image))


def as_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode ``RGB``, decoded to its last byte; ``image`` itself, which is changed, where that will do.

    Rotated as EXIF says; transparency laid on white; 16-bit greys scaled to 8 bits; first frame of an animation.
    """
    ImageOps.exif_transpose(image, in_place=True)  # decodes: only now are mode and transparency certain
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy: a tenth of decoding a JPEG of 224 px


def as_grey(image: Image.Image, side_px: int) -> Image.Image:
    """The luma of :func:`as_rgb` in mode ``L``, decoded to its last byte; ``image`` may be changed.

    Most JPEGs give the luma that they store, without making colours of it. A large one may be scaled down by 2, 4 or 8
    as it is decoded, in both sides alike, as long as neither falls below ``side_px``. Every byte is read and checked
    all the same, and a photo of 12 megapixels takes a third of the time.
    """
    if not isinstance(image, JpegImageFile) or _has_whole_sampling(image):
        image.draft("L", (side_px, side_px))
    image.load()  # only now are mode and transparency certain
    if image.mode != "L" or "transparency" in image.info:
        return as_rgb(image).convert("L")
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _has_whole_sampling(image: JpegImageFile) -> bool:
    """Else the decoder refuses the colours, and would not notice where they are not asked for."""
    across, down = ([component[place] for component in image.layer] for place in (1, 2))
    return all(factor and max(factors) % factor == 0 for factors in (across, down) for factor in factors)


def decode(content: bytes) -> np.ndarray:
    """:func:`to_rgb` of an encoded image.

    Raises:
        TooManyPixelsError: see :data:`MAX_PIXELS`.
        PIL.UnidentifiedImageError, OSError: not an image, or a broken one.
    """
    with opened(content) as image:
        return to_rgb(image)


class ImageStore:
    """Reads the images that a manifest lists, and only those; paths are relative to ``workspace``.

    What is computed from an image is kept under its id, the digest of its bytes. So the bytes are compared with the id
    each time they are read: a file overwritten since ingest would else be remembered as the one it replaced.
    """

    def __init__(self, workspace: Path, workers: int = 0) -> None:
        self._workspace = workspace
        self._workers = workers

    def contents(self, manifest: Manifest) -> Iterator[bytes]:
        """The encoded bytes of each image, in manifest order.

        Raises:
            DataError: an image is gone, or is no longer the one that ingest saw.
        """
        import pandas as pd  # half a second, which `graftline predict` need not wait

        columns = (manifest.frame[name] for name in ("id", "path", "offset", "length"))
        for image_id, path, offset, length in zip(*columns, strict=True):
            in_shard = not pd.isna(offset)
            content = self._read(path, int(offset) if in_shard else 0, int(length) if in_shard else -1)
            if digests.of_bytes(content) != image_id:
                raise _changed(path, "other bytes: it has changed since ingest")
            yield content

    def _read(self, path: str, offset: int, length: int) -> bytes:
        try:
            with reading(self._workspace / path) as file:
                file.seek(offset)
                return file.read(length)
        except NotAFileError as error:
            raise _changed(path, str(error.strerror)) from error
        except FileNotFoundError as error:
            raise _changed(path, "no file: it has gone since ingest") from error

    def pixels(self, manifest: Manifest) -> Iterator[np.ndarray]:
        """Decoded images in manifest order, each uint8 (height, width, 3)."""
        return self.each(manifest, lambda image: image)

    def each(self, manifest: Manifest, make: Callable[[np.ndarray], Made]) -> Generator[Made, None, None]:
        """What ``make`` makes of each decoded image, uint8 (height, width, 3), in manifest order.

        Decoding and ``make`` run ahead on threads, while the caller computes with what is there.
        """
        return mapped_ahead(lambda content: make(decode(content)), self.contents(manifest), self._workers)


def _changed(path: str, found: str) -> DataError:
    return DataError(
        expected="the image that ingest saw",
        found=found,
        where=path,
        remedy="Run again: ingest will read it anew.",
    )
