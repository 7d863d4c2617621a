"""Compile the network with its preprocessing into one ONNX file, and prove that it answers as the network does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.core import params as base
from pipeline.core.context import Context, Result
from pipeline.core.progress import track

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.models.network import TrainedNetwork
    from pipeline.serving.parity import ParityReport


class Params(base.Params):
    """How thoroughly parity is proven; nothing here changes the file."""

    parity_images: int = Field(1000, ge=1, description="at most this many test images are compared at batch 1")
    parity_batched_images: int = Field(128, ge=1, description="at most this many at each of the batch sizes 2, 7, 32")


def run(
    params: Params,
    context: Context,
    *,
    network: TrainedNetwork,
    label_space: LabelSpace,
    target_manifest: Manifest,
) -> Result:
    """Export, then compare the file with the network; whether they are close enough is a gate's affair."""
    from pipeline.data.images import ImageStore
    from pipeline.serving.export import to_onnx
    from pipeline.serving.parity import compare
    from pipeline.serving.predictor import Predictor
    from pipeline.serving.reference import one_thread, reference

    module = network.build()
    model = to_onnx(module, network.preprocessing, label_space.classes, network.metadata)
    split, rows = _parity_rows(target_manifest, params.parity_images)
    pixels = ImageStore(context.workspace, context.workers).pixels(rows)
    with one_thread():
        parity = compare(
            reference(module, network.preprocessing),
            Predictor(model),
            track(pixels, what="parity", unit="images", total=len(rows)),
            split=split,
            batched_images=params.parity_batched_images,
        )
    return Result(_line(model.size_mb, parity), {"model": model, "parity": parity})


def _parity_rows(target_manifest: Manifest, count: int) -> tuple[str, Manifest]:
    """At most ``count`` test images, evenly over the split; training images where there is no test."""
    split = "test" if len(target_manifest.split("test")) else "train"
    rows = target_manifest.split(split)
    step = max(1, math.ceil(len(rows) / count))
    return split, rows.where(rows.frame.index.to_series() % step == 0)


def _line(size_mb: float, parity: ParityReport) -> str:
    agreement = f"{parity.disagreements} disagreements" if parity.disagreements else "equal answers"
    return (
        f"{size_mb:.1f} MB · {agreement} on {parity.images:,} {parity.split} images"
        f" · max |Δp| {parity.max_probability_delta:.1e}"
    )
