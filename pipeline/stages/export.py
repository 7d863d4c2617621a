"""Compile the network with its preprocessing into one ONNX file, and prove that it answers as the network does.

Asked for int8, it quantises that file and ships the result if it loses little enough; parity is proven before, on
float32.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.core import params as base
from pipeline.core.context import Context, Result
from pipeline.core.device import one_thread
from pipeline.core.progress import track

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.features.table import FeatureTable
    from pipeline.models.network import TrainedNetwork
    from pipeline.serving.parity_report import ParityReport


class Params(base.Params):
    """How thoroughly parity is proven, and whether the file may be quantised."""

    parity_images: int = Field(1000, ge=1, description="at most this many test images are compared at batch 1")
    parity_batched_images: int = Field(64, ge=1, description="at most this many at each of the batch sizes 2, 7, 32")
    int8: bool = Field(False, description="quantise to 8 bits, and ship that file unless it loses too much accuracy")
    int8_max_drop: float = Field(0.01, ge=0, le=1, description="largest loss of accuracy at which the int8 file ships")
    int8_calibration_images: int = Field(128, ge=1, description="at most this many training images set its ranges")


def inputs_unused(params: Params) -> tuple[str, ...]:
    """int8 alone may calibrate on the source's images."""
    return () if params.int8 else ("source_manifest",)


def run(
    params: Params,
    context: Context,
    *,
    network: TrainedNetwork,
    label_space: LabelSpace,
    target_manifest: Manifest,
    target_features: FeatureTable,
    source_manifest: Manifest | None = None,
) -> Result:
    """Export, then compare the file with the network; whether they are close enough is a gate's affair.

    ``target_features`` spare the network what its backbone has computed before.
    ``source_manifest`` is read for int8 alone, where the target has no training image to calibrate on.
    """
    from pipeline.data.images import ImageStore
    from pipeline.serving.answering import Answering, at_once
    from pipeline.serving.export import to_onnx
    from pipeline.serving.int8_trial import attempt
    from pipeline.serving.parity import compare
    from pipeline.serving.reference import known_answers, reference

    module = network.build()
    model = to_onnx(module, network.preprocessing, label_space.classes, network.metadata)
    split, rows = _parity_rows(target_manifest, params.parity_images)
    answering = Answering(model, context)
    side_by_side = partial(at_once, rows, context.workers)
    pixels = ImageStore(context.workspace, side_by_side()).pixels(rows)
    with one_thread():
        parity, answers = compare(
            reference(module, network.preprocessing),
            answering.predictor,
            track(pixels, what="parity", unit="images", total=len(rows)),
            split=split,
            batched_images=params.parity_batched_images,
            step=float(getattr(getattr(module, "head", None), "step", 0.0)),
            at_once=side_by_side,
            known=known_answers(network, module, target_features, rows),
        )
    answering.remember(rows.frame["id"].tolist(), answers)
    line = _line(model.size_mb, parity)
    if params.int8:
        trial = attempt(
            model,
            target_manifest,
            source_manifest,
            context,
            calibration_images=params.int8_calibration_images,
            max_drop=params.int8_max_drop,
        )
        model, parity = trial.model, parity.model_copy(update={"quantisation": trial.quantisation})
        line = f"{line} · {trial.quantisation.sentence}"
    return Result(line, {"model": model, "parity": parity})


def _parity_rows(target_manifest: Manifest, count: int) -> tuple[str, Manifest]:
    """At most ``count`` test images, evenly over the split; training images where there is no test."""
    from pipeline.data.sampling import evenly

    split = "test" if len(target_manifest.split("test")) else "train"
    return split, evenly(target_manifest.split(split), count)


def _line(size_mb: float, parity: ParityReport) -> str:
    agreement = f"{parity.disagreements} disagreements" if parity.disagreements else "equal answers"
    if parity.ties:
        agreement += f", {parity.ties} ties fallen to the other side,"
    return (
        f"{size_mb:.1f} MB · {agreement} on {parity.images:,} {parity.split} images"
        f" · max |Δp| {parity.max_probability_delta:.1e}"
    )
