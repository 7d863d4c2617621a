"""Labels in doubt, from ``metrics.json``, each with its picture."""

from __future__ import annotations

from pathlib import Path

from pipeline.catalog import CATALOG
from pipeline.data.manifest import Manifest
from pipeline.reporting import thumbnails
from pipeline.reporting.reading import Json
from pipeline.reporting.view import Doubt, LabelsInDoubt

NOT_JUDGED = "Too few target images of train and val are labelled to judge the labels by one another."
WHAT = (
    "A classifier on the frozen backbone's features, fitted to all other images, answers otherwise (confident "
    "learning, Northcutt et al. 2021): a wrong label, an ambiguous image, or a difference that the backbone does not "
    "see. Nothing was removed. Wrong labels of the test split stand among the worst mistakes."
)


def labels(workspace: Path, metrics: Json | None) -> LabelsInDoubt | None:
    """The labels that the features speak against; without rows where there are none, or nothing to judge by."""
    if metrics is None:
        return None
    review = next(iter(metrics.get("label_review", [])), None)
    if review is None:
        return LabelsInDoubt([NOT_JUDGED], [])
    sentences = [_counted(review)] + [WHAT] * bool(review["suspects"])
    if review["unjudged"]:
        sentences.append(f"Not judged, for want of labelled images: {', '.join(review['unjudged'])}.")
    return LabelsInDoubt(sentences, _shown(workspace, review["named"]))


def _counted(review: Json) -> str:
    """``7 of 1,204 labels in train and val are in doubt; …`` with how far the judge is to be trusted."""
    if not review.get("trusted", True):  # written by an earlier release, it does not say
        return (
            f"No label is doubted: the classifier that would judge the {review['images']:,} in train and val agrees "
            f"with {review['accuracy']:.1%} of them, hardly more than by chance; most doubts would be its own errors."
        )
    trust = f"the classifier that judges them agrees with {review['accuracy']:.1%} of all"
    if not review["suspects"]:
        return f"None of {review['images']:,} labels in train and val; {trust}."
    first = ""
    if len(review["named"]) < review["suspects"]:
        first = f" These {len(review['named'])} are the surest."
    return f"{review['suspects']:,} of {review['images']:,} labels in train and val; {trust}.{first}"


def _shown(workspace: Path, named: list[Json]) -> list[Doubt]:
    path = workspace / CATALOG["target_manifest"].path
    manifest = Manifest.load(path) if named and path.is_file() else Manifest.empty()
    pictures = thumbnails.of_images(workspace, manifest, [row["id"] for row in named])
    return [
        Doubt(
            row["name"],
            row["split"],
            row["given"],
            row["likelier"],
            row["confidence"],
            *pictures.get(row["id"], (None, False)),
        )
        for row in named
    ]
