"""Put together what deployment gets: the model, its labels, its proof and its description, in one folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.core import params as base
from pipeline.core.context import Context, Result
from pipeline.core.files import Folder

if TYPE_CHECKING:
    from pipeline.data.expectations import ValidationReport
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.evaluation.explain_report import Robustness
    from pipeline.evaluation.report import Latency, Metrics
    from pipeline.gates._base import Verdict
    from pipeline.serving.onnx_file import OnnxFile
    from pipeline.serving.parity_report import ParityReport
    from pipeline.training.record import TrainingRecord


class Params(base.Params):
    """What the hand-off folder holds beside the model."""

    golden_images: int = Field(
        8, ge=1, le=999, description="test images kept with their answers, to prove a deployment by"
    )
    triton: bool = Field(
        True, description="lay out triton/ as a Triton model repository, with a second copy of the file"
    )


def run(
    params: Params,
    context: Context,
    *,
    model: OnnxFile,
    verdict: Verdict,
    metrics: Metrics,
    latency: Latency,
    parity: ParityReport,
    validation: ValidationReport,
    training: TrainingRecord,
    robustness: Robustness,
    label_space: LabelSpace,
    target_manifest: Manifest,
) -> Result:
    """Write the bundle and prove it by its own golden pairs. Equal inputs make an equal bundle, as long as the same
    packages are installed: its bill of materials names them."""
    from pipeline.data.images import ImageStore
    from pipeline.serving import bill_of_materials, bundle, model_card
    from pipeline.serving.golden import choose
    from pipeline.serving.packages import made_with

    golden_rows = choose(target_manifest, params.golden_images)
    golden_images = list(ImageStore(context.workspace, context.workers).pixels(golden_rows))
    reports = {
        "verdict": verdict,
        "metrics": metrics,
        "latency": latency,
        "parity": parity,
        "validation": validation,
        "training": training,
        "robustness": robustness,
    }
    facts = {name: report.model_dump(mode="json") for name, report in reports.items()}
    folder = context.empty_folder("bundle")
    bundle.write(
        folder,
        bundle.Contents(
            name=context.model,
            model=model,
            classes=label_space.classes,
            golden_names=list(golden_rows.frame["name"]),
            golden_images=golden_images,
            card=model_card.render(context.model, model.metadata, label_space.classes, facts),
            bill=bill_of_materials.render(context.model, model, label_space.classes, facts, made_with()),
            facts={"passed": verdict.passed, "data": facts["validation"]["profile"]},
            triton=params.triton,
        ),
    )
    checked = bundle.verify(folder)
    line = (
        f"{checked.files} files, {checked.size_mb:.1f} MB · {checked.golden_images} golden images answered as recorded"
    )
    return Result(line, {"bundle": Folder(folder)})
