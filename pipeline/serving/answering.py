"""A file's answers to the images of a manifest, each computed once.

Images are asked one by one, several side by side, each on one thread of ONNX Runtime: as fast as in batches on all
cores, and an answer depends on nothing but the image and the file. So it can be kept: parity has asked the file for the
test images when evaluate wants to know, and the champion answered them when it was new.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core import cores, digests, memory
from pipeline.core.batches import batched
from pipeline.core.known import Known
from pipeline.core.progress import track
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.data.recipes import recipe
from pipeline.features.cache import FeatureCache
from pipeline.serving.predictor import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.core.context import Context
    from pipeline.serving.onnx_file import OnnxFile

BYTES_PER_PIXEL, BYTES_OF_LAYERS, BYTES_BESIDES = 32, 30 * 10**6, 100 * 10**6
"""Of memory for an image at work, by its own pixels (resnet18 took 13) and for the network's layers (22 MB); and for a
thread."""

EVEN_SIDE_PX = 512
"""Longest side of an image where several are answered together: parity scales larger ones down, or takes fewer."""

KEEP_EVERY = 1024
"""Answers of :meth:`Answering.of`: what a kill costs at most."""

CODE = ("pipeline.core.onnx_session", "pipeline.data.images", "pipeline.serving.predictor")
"""What lies between an image's bytes and an answer, beside this module, the file and the libraries."""


class Answering:
    """One file in one workspace.

    Raises:
        BundleError: it is no model that Graftline exported.
    """

    def __init__(self, model: OnnxFile, context: Context) -> None:
        self._context = context
        self.predictor = Predictor(model, threads=1)
        cache = context.cache
        self.folder = cache / "answers" / digests.of_json([model.digest, _recipe()]) if cache else None
        """Where answers of this file are kept, float32 [classes] for each image; None where nothing is."""
        self._known = Known(FeatureCache(self.folder) if self.folder else None, "answers")

    def of(self, manifest: Manifest, what: str) -> NDArray[np.float32]:
        """Probabilities, float32 [images, classes], in the manifest's order; ``what`` is told of progress."""
        ids = manifest.frame["id"].tolist()
        answers = np.empty((len(ids), len(self.predictor.classes)), dtype=np.float32)
        new = self._known.recall(ids, answers)
        asked = Manifest(manifest.frame.iloc[new].reset_index(drop=True))
        store = ImageStore(self._context.workspace, at_once(asked, self._context.workers))
        with contextlib.closing(store.each(asked, self.predictor.alone)) as answered:
            told = track(answered, what=what, unit="images", total=len(new))
            for part in batched(zip(new, told, strict=True), KEEP_EVERY):
                rows = [row for row, _ in part]
                answers[rows] = [answer for _, answer in part]
                self.remember([ids[row] for row in rows], answers[rows])
        return answers

    def remember(self, ids: Sequence[str], answers: NDArray[np.float32]) -> None:
        """Keep what :attr:`predictor` has answered to each of these images alone, [images, classes]."""
        self._known.remember(ids, answers)


def at_once(manifest: Manifest, workers: int = 0, images: int = 1) -> int:
    """On how many threads to ask for ``images`` of the manifest each: one per core (or ``workers``), and no more than
    there is memory for."""
    largest_px = int((manifest.frame["width"] * manifest.frame["height"]).max()) if len(manifest) else 0
    pixels = min(images * largest_px, max(largest_px, images * EVEN_SIDE_PX**2))
    each = BYTES_BESIDES + images * BYTES_OF_LAYERS + pixels * BYTES_PER_PIXEL
    return max(1, min(workers or cores.usable(), memory.available_bytes() // each))


def forget_others(answerings: Sequence[Answering]) -> None:
    """Remove the answers of all files of the workspace but these: what a run asks next is its champion."""
    wanted = {answering.folder for answering in answerings}
    for folder in {folder.parent for folder in wanted if folder}:
        for other in set(folder.iterdir()) - wanted if folder.is_dir() else ():
            shutil.rmtree(other, ignore_errors=True)


def _recipe() -> str:
    """Digest of what an answer depends on, beside the image and the file."""
    return recipe((*CODE, __name__), ("onnxruntime",), platform.machine())
