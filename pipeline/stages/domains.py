"""domains: how far the target is from the source, and from the last run's target, as the backbone sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.core.context import Context, Result
from pipeline.core.params import Params as Base

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.evaluation.domain_card import DomainCard
    from pipeline.evaluation.domains import Distance, DomainReport
    from pipeline.features.table import FeatureTable


LIMIT = (
    "A small distance and an accurate source model do not imply an accurate target model: "
    "only labels of the target can prove that."
)


class Params(Base):
    """Distances on cached features. Test images take no part."""

    max_images: int = Field(2000, ge=40)
    """Of each domain; more are sampled down."""
    draws: int = Field(100, ge=20)
    """Measurements behind each interval."""
    map_images: int = Field(500, ge=0)
    """Of each domain in the 2-D map; 0 draws none."""


def run(
    params: Params,
    context: Context,
    *,
    label_space: LabelSpace,
    source_manifest: Manifest,
    target_manifest: Manifest,
    source_features: FeatureTable,
    target_features: FeatureTable,
    previous_domain: DomainCard,
) -> Result:
    """Compare; the report about the source depends on this run's data alone, the one on drift on the last run's too."""
    from pipeline.evaluation.domain_card import DomainCard

    target = target_manifest.split("train", "val")
    source, remark = _source(source_manifest.split("train", "val"), label_space)
    domains = _against_source(params, context, source, target, source_features, target_features, remark)
    drift = _against_last_run(params, context, target, target_features, previous_domain)
    card = DomainCard.of(
        target.frame["id"].tolist(),
        target_features.of(target),
        backbone=target_features.facts.backbone,
        backbone_digest=target_features.facts.backbone_digest,
        preprocessing_digest=target_features.facts.preprocessing_digest,
    )
    outputs = {"domains": domains, "drift": drift, "domain_card": card}
    return Result(f"{_line(domains, 'source')} · {_line(drift, 'last run')}", outputs)


def _source(images: Manifest, label_space: LabelSpace) -> tuple[Manifest, list[str]]:
    """The images of the target's classes; all where there are none, and a sentence about it."""
    mapped = images.where(images.frame["label"].isin(label_space.classes))
    if len(mapped) or not len(images):
        return mapped, []
    reason = "has a class of the target" if len(images.labelled) else "has a label"
    return images, [f"No image of the source {reason}: all {len(images):,} of them are compared."]


def _against_source(
    params: Params,
    context: Context,
    source: Manifest,
    target: Manifest,
    source_features: FeatureTable,
    target_features: FeatureTable,
    remark: list[str],
) -> DomainReport:
    from pipeline.evaluation.domains import DomainReport, compare

    if not len(source):
        sentence = "There is no source domain to compare the target with."
        return DomainReport(target_images=len(target), sentences=[sentence])
    report = compare(
        source_features.of(source),
        target_features.of(target),
        seed=context.seed,
        source_labels=_labels(source),
        target_labels=_labels(target),
        **params.model_dump(),
    )
    return report.model_copy(update={"sentences": [*remark, *report.sentences, LIMIT]})


def _against_last_run(
    params: Params, context: Context, target: Manifest, features: FeatureTable, previous: DomainCard
) -> DomainReport:
    """Images that the last run had, too, are left out of this one's: what is on both sides would hide what is new."""
    import pandas as pd

    from pipeline.evaluation.domains import DomainReport, compare

    names = ("last run", "new part of the target")
    fresh = target.where(pd.Series(~previous.knows(target.frame["id"].tolist()), dtype=bool))
    reason = _why_not(previous, features, fresh)
    if reason:
        return DomainReport(source=names[0], target=names[1], target_images=len(fresh), sentences=[reason])
    limits = params.model_dump() | {"map_images": 0}
    return compare(previous.features, features.of(fresh), seed=context.seed, names=names, **limits)


def _why_not(previous: DomainCard, features: FeatureTable, fresh: Manifest) -> str | None:
    """Why the target cannot be compared with the last run's, in a sentence."""
    facts = features.facts
    if not len(previous):
        return "There is no last run whose target this one could be compared with."
    digests = {"backbone_digest": facts.backbone_digest, "preprocessing_digest": facts.preprocessing_digest}
    if not previous.is_comparable(**digests):
        return (
            "The target cannot be compared with the last run's: its features were made by another backbone "
            f"({previous.backbone}, now {facts.backbone}), by other weights of it, or from images prepared otherwise."
        )
    if not len(fresh):
        return "The target's images are those of the last run."
    return None


def _labels(manifest: Manifest) -> list[str | None]:
    labels = manifest.frame["label"]
    return labels.astype(object).where(labels.notna(), None).tolist()


def _line(report: DomainReport, other: str) -> str:
    """``near the source (MMD 0.010, 0.009 to 0.013)``"""
    mmd = report.distance("MMD")
    if mmd is None:
        return f"{other} not compared"
    if mmd.is_within_null:
        return f"not told from the {other} (MMD {_figures(mmd)})"
    words = {"near": "near the", "middle": "at a middle distance from the", "far": "far from the"}
    return f"{words[report.nearness or 'near']} {other} (MMD {_figures(mmd)})"


def _figures(mmd: Distance) -> str:
    return f"{mmd.value:.3f}, {mmd.low:.3f} to {mmd.high:.3f}".replace("-", "−")
