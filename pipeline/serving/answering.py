"""A predictor on the images of a manifest, with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.core.progress import track
from pipeline.data.images import ImageStore

if TYPE_CHECKING:
    import numpy as np

    from pipeline.core.context import Context
    from pipeline.data.manifest import Manifest
    from pipeline.serving.predictor import Predictor


def answer(predictor: Predictor, manifest: Manifest, context: Context, what: str) -> np.ndarray:
    """Probabilities, float32 [images, classes], in the manifest's order."""
    pixels = ImageStore(context.workspace, context.workers).pixels(manifest)
    return predictor.probabilities(track(pixels, what=what, unit="images", total=len(manifest)))
