"""Golden pairs: a few real images with the answers the model gave, to prove any deployment of it by.

``golden/inputs.npz`` holds ``image_000``, ``image_001``, … (uint8 [height, width, 3]); ``golden/outputs.npz`` the
answers of ONNX Runtime on this model, ``logits`` and ``probabilities`` (float32 [images, classes]), and the ``names``
of the images. The same images lie beside them as PNG for people.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from pipeline.core.archives import check_not_packed
from pipeline.core.errors import BundleError
from pipeline.data.manifest import Manifest
from pipeline.serving.parity_report import FLIPS
from pipeline.serving.predictor import Predictor

INPUTS = "golden/inputs.npz"
OUTPUTS = "golden/outputs.npz"

MAX_SIDE_PX = 1024
"""Larger images are reduced to this, so that a bundle stays small."""

TOLERANCE = 1e-4
"""Largest difference of a probability between two machines, float32."""

INT8_TOLERANCE = 0.1
"""The same for int8: where a float's last bit decides how a value is rounded, another kernel moves it by one of 256
levels, and layers pass that on. Integer and float kernels differed by up to 0.056 (``docs/quantisation.md``)."""


class Golden(NamedTuple):
    """Images and the recorded answers, in the same order."""

    names: list[str]
    images: list[np.ndarray]
    """uint8 [height, width, 3] each"""
    logits: np.ndarray
    """float32 [images, classes]"""
    probabilities: np.ndarray
    """float32 [images, classes]"""

    @classmethod
    def record(cls, predictor: Predictor, names: list[str], images: list[np.ndarray]) -> Self:
        """Let ``predictor`` answer the images, one at a time."""
        reduced = [_reduced(image) for image in images]
        answers = [predictor.run(image[None]) for image in reduced]
        return cls(
            names,
            reduced,
            np.concatenate([answer.logits for answer in answers]),
            np.concatenate([answer.probabilities for answer in answers]),
        )

    @classmethod
    def load(cls, bundle: Path) -> Self:
        """The golden pairs of a bundle.

        Raises:
            BundleError: there are none, or the file is damaged.
        """
        try:
            for name in (INPUTS, OUTPUTS):
                check_not_packed(bundle / name)
            with np.load(bundle / INPUTS) as inputs, np.load(bundle / OUTPUTS) as outputs:
                images = [inputs[name] for name in sorted(inputs.files)]
                return cls(
                    [str(name) for name in outputs["names"]], images, outputs["logits"], outputs["probabilities"]
                )
        except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as problem:
            raise BundleError(
                expected=f"golden images and answers ({INPUTS}, {OUTPUTS})",
                found=f"none that can be read ({type(problem).__name__})",
                where=str(bundle),
                remedy="Package the model again with 'graftline run', or take the bundle from the registry.",
            ) from problem

    def save(self, bundle: Path) -> None:
        """Write both files and a PNG of each image below ``bundle``; equal pairs make equal bytes."""
        folder = (bundle / INPUTS).parent
        folder.mkdir(parents=True, exist_ok=True)
        numbered: dict[str, Any] = {f"image_{number:03}": image for number, image in enumerate(self.images)}
        np.savez(bundle / INPUTS, **numbered)
        np.savez(bundle / OUTPUTS, names=np.array(self.names), logits=self.logits, probabilities=self.probabilities)
        for name, image in numbered.items():
            Image.fromarray(image).save(folder / f"{name}.png")

    def difference(self, predictor: Predictor) -> float:
        """Largest difference between the recorded probabilities and those of ``predictor`` now."""
        answers = predictor.probabilities(self.images)
        return float(np.abs(answers - self.probabilities).max())


def tolerance(metadata: dict[str, Any]) -> float:
    """Largest difference between the answers of one file on two machines; ``metadata`` is the file's.

    Heads that compare jump by ``head_step`` where a feature's last bit decides.
    """
    of_numbers = INT8_TOLERANCE if metadata.get("precision") == "int8" else TOLERANCE
    return of_numbers + FLIPS * float(metadata.get("head_step", 0))


def choose(manifest: Manifest, count: int) -> Manifest:
    """``count`` test images, from as many classes as possible; training images where there is no test.

    Which ones depends only on the images' content: within a class, the smallest ids come first.
    """
    pool = manifest.split("test")
    pool = pool if len(pool) else manifest
    ordered = pool.frame.sort_values("id", kind="stable")
    turn = ordered.groupby(ordered["label"].fillna("")).cumcount()
    rows = ordered.assign(turn=turn).sort_values(["turn", "label", "id"], kind="stable").index[:count]
    return pool.where(pool.frame.index.to_series().isin(rows))


def _reduced(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    factor = MAX_SIDE_PX / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
