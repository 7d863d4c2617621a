"""See inside: what the network looks at, and how its answers stand against attacks and common corruptions.

By torch and not through the exported file, because maps and attacks need gradients; the export stage has proven the two
equal. Labels of the test split serve to score here, as in evaluate, and choose nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.core import digests
from pipeline.core import params as base
from pipeline.core.context import Context, Result
from pipeline.core.device import SMALL_IMAGE_PX, Threads, computing, threads_for
from pipeline.core.files import Folder
from pipeline.core.seeding import unit

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.evaluation.explain_report import Explanations, Robustness
    from pipeline.evaluation.subject import Subject
    from pipeline.features.cache import FeatureCache
    from pipeline.models.network import TrainedNetwork

IMAGES_SMALL, IMAGES_LARGE = 128, 32
"""Images that ``auto`` tries up to 64 px and beyond: seconds for a small network, a minute for resnet18 on a CPU."""


class Params(base.Params):
    """How thoroughly to look; nothing here changes the model."""

    classes: int = Field(
        4, ge=0, le=8, description="classes of which one target and one source image are shown with their maps"
    )
    images: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="at most this many labelled test images are attacked and corrupted; auto: 128 for images up to "
        "64 px, 32 for larger ones; 0 tries nothing",
    )
    threads: Threads = Field("auto", description="CPU threads of torch, as in train")


def run(
    params: Params,
    context: Context,
    *,
    network: TrainedNetwork,
    label_space: LabelSpace,
    source_manifest: Manifest,
    target_manifest: Manifest,
) -> Result:
    """Explain a few images of both domains, then try a sample of the test images."""
    from pipeline.data.images import ImageStore
    from pipeline.evaluation import explain_report, looking, withstanding
    from pipeline.evaluation.subject import Subject

    store = ImageStore(context.workspace, context.workers)
    folder = context.empty_folder("explanations")
    side_px = network.preprocessing.size_px
    sample = _sample(target_manifest, label_space.classes, _count(params, side_px))
    with computing(context.device, context.seed, threads_for(params.threads, side_px)) as device:
        subject = Subject(network.build(), network.preprocessing, label_space.classes, device)
        chosen = looking.choose(subject, target_manifest, source_manifest, store, params.classes)
        explanations = looking.explain(subject, chosen, store, folder, context.seed)
        known = _known(context, network, subject) if len(sample) else None
        robustness = withstanding.measure(subject, sample, store.pixels(sample), context.seed, known)
    explanations.save(folder / explain_report.FILE)
    outputs = {"explanations": Folder(folder), "robustness": robustness}
    return Result(_line(explanations, robustness), outputs)


def _known(context: Context, network: TrainedNetwork, subject: Subject) -> FeatureCache | None:
    """Features of corrupted images; None where the backbone has learnt, and no later run will meet it again."""
    from pipeline.evaluation.withstanding import recipe
    from pipeline.features.cache import FeatureCache, forget_unused

    if context.cache is None or not network.keeps_backbone:
        return None
    recipes = context.cache / "corrupted"
    cache = FeatureCache(recipes / digests.of_json([network.facts.backbone_digest, recipe(subject)]))
    forget_unused(recipes)
    return cache


def _count(params: Params, side_px: int) -> int:
    if params.images != "auto":
        return params.images
    return IMAGES_SMALL if side_px <= SMALL_IMAGE_PX else IMAGES_LARGE


def _sample(target_manifest: Manifest, classes: list[str], count: int) -> Manifest:
    """At most ``count`` labelled test images, always the same for the same images."""
    known = target_manifest.where(target_manifest.frame["label"].isin(classes)).split("test")
    lot = known.frame["id"].map(lambda image_id: unit(0, "robustness sample", image_id))
    return known.where(lot.rank(method="first") <= count)


def _line(explanations: Explanations, robustness: Robustness) -> str:
    shown = f"maps of {len(explanations.examples)} images" if explanations.examples else "no maps"
    if robustness.clean_accuracy is None:
        return f"{shown} · nothing attacked"
    attacked = "attacks do not apply"
    if robustness.pgd_2_accuracy is not None and robustness.pgd_8_accuracy is not None:
        attacked = f"{robustness.pgd_2_accuracy:.1%} under attacks of 2/255, {robustness.pgd_8_accuracy:.1%} of 8/255"
    return (
        f"{shown} · accuracy {robustness.clean_accuracy:.1%} on {robustness.images:,} test images, {attacked}, "
        f"{robustness.corruption_accuracy:.1%} under corruptions"
    )
