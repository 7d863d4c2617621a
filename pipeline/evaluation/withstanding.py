"""Accuracy under attacks and common corruptions, on a sample of the labelled test images.

By torch, because attacks need gradients; the export stage has proven the file equal. Labels of the test split serve to
score here, as in the evaluate stage, and choose nothing.

A corrupted image depends on nothing but the image, so its features change with the backbone alone: where a run leaves
that as it was, they are known from the run before, and only the head answers anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.ahead import mapped_ahead
from pipeline.core.batches import batched
from pipeline.core.device import SMALL_IMAGE_PX, batches_at_once
from pipeline.core.known import Known, Store
from pipeline.core.progress import Meter
from pipeline.core.seeding import derive
from pipeline.data import recipes
from pipeline.data.manifest import Manifest
from pipeline.evaluation import intervals, robustness
from pipeline.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, within
from pipeline.evaluation.explain_report import AttackScore, CorruptionScore, Robustness
from pipeline.evaluation.saliency import is_differentiable
from pipeline.evaluation.subject import Subject

BATCH_SMALL, BATCH_LARGE = 64, 16
"""Images attacked at once: small squares share a step's overhead, large ones fill memory."""

RESAMPLES = 2000

NOTHING = "no labelled test image was tried"
NO_GRADIENT = (
    "attacks do not apply: no gradient passes through this head, and attacks that need none were not tried; "
    "the answers may well be as fragile as others"
)
FEW_STEPS = (
    f"PGD took {robustness.STEPS_LARGE} steps, not {robustness.STEPS_SMALL}, for images above {SMALL_IMAGE_PX} px"
)

COPIES = len(CORRUPTIONS) * len(SEVERITIES)
"""Corrupted copies of each image."""


CODE = (
    "pipeline.core.device",
    "pipeline.core.seeding",
    "pipeline.data.images",
    "pipeline.data.loading",
    "pipeline.data.transforms",
    "pipeline.evaluation.corruptions",
    "pipeline.evaluation.subject",
    "pipeline.models.network",
)
"""What lies between an image's bytes and its features, beside this module and the libraries."""


def recipe(subject: Subject) -> str:
    """Digest of what the features of corrupted copies depend on, beside the image and the backbone's weights."""
    packages = ("torch", "torchvision", "numpy")
    return recipes.recipe((*CODE, __name__), packages, subject.preprocessing.digest, subject.device.type)


def measure(
    subject: Subject, manifest: Manifest, images: Iterable[np.ndarray], seed: int, store: Store | None = None
) -> Robustness:
    """Attack and corrupt every image of ``manifest``, all labelled with one of the subject's classes.

    Args:
        subject: the network.
        manifest: the sample.
        images: decoded, uint8 [H, W, 3] each, in the manifest's order; read once.
        seed: of the attacks' random starts. Corruptions depend on each image's id alone, so that two runs see the same.
        store: of features of corrupted images, float32 [COPIES · feature_dim] for each, by the subject's backbone and
            :func:`recipe`; what it lacks is added. None keeps nothing.
    """
    if not len(manifest):
        return Robustness(images=0, notes=[NOTHING])
    labels = np.array([subject.classes.index(label) for label in manifest.frame["label"]])
    ids = manifest.frame["id"].tolist()
    size = BATCH_SMALL if subject.side_px <= SMALL_IMAGE_PX else BATCH_LARGE
    tried = _Tried(subject, seed, Known(store, "features of corrupted images"))
    meter = Meter(what="robustness", unit="images", total=len(manifest))
    for rows, batch in zip(batched(range(len(ids)), size), batched(images, size), strict=True):
        tried.add([ids[row] for row in rows], batch, labels[rows], meter)
    meter.close()
    return tried.report(seed)


class _Tried:
    """What has been tried so far."""

    def __init__(self, subject: Subject, seed: int, known: Known) -> None:
        self._subject, self._seed, self._known = subject, seed, known
        self._is_attacked = is_differentiable(subject.network)
        self._at_once = batches_at_once(subject.device, COPIES, subject.side_px)
        self._clean: list[NDArray[np.bool_]] = []
        self._trials: list[list[robustness.Trial]] = []
        self._corrupted: list[NDArray[np.bool_]] = []

    def add(self, ids: Sequence[str], images: Sequence[np.ndarray], labels: NDArray[np.int64], meter: Meter) -> None:
        squares = self._subject.squares(images)
        features = self._subject.features(squares)
        self._clean.append(self._subject.answers_of(features) == labels)
        if self._is_attacked:
            starts = robustness.starts(ids, self._subject.side_px, self._seed).to(squares.device)
            numbers = torch.from_numpy(labels).to(squares.device)
            self._trials.append(robustness.attack(self._subject.logits, squares, numbers, starts))
        for row, label in zip(self._features_of_copies(ids, images, features.shape[1], meter), labels, strict=True):
            answers = self._subject.answers_of(row.reshape(COPIES, -1))
            self._corrupted.append((answers == label).reshape(len(CORRUPTIONS), len(SEVERITIES)))

    def _features_of_copies(
        self, ids: Sequence[str], images: Sequence[np.ndarray], feature_dim: int, meter: Meter
    ) -> NDArray[np.float32]:
        """[B, COPIES · feature_dim]; what is not known is computed, images side by side, and kept."""
        found = np.empty((len(ids), COPIES * feature_dim), dtype=np.float32)
        new = self._known.recall(ids, found)
        meter.advance(len(ids) - len(new))
        work = ((ids[row], images[row]) for row in new)
        for row, features in zip(new, mapped_ahead(self._compute, work, self._at_once), strict=True):
            found[row] = features
            meter.advance()
        self._known.remember([ids[row] for row in new], found[new])
        return found

    def _compute(self, image: tuple[str, np.ndarray]) -> NDArray[np.float32]:
        """Features of an image's copies, in one row."""
        image_id, pixels = image
        return self._subject.features(self._subject.squares(_copies(pixels, image_id, self._subject.resize_px))).ravel()

    def report(self, seed: int) -> Robustness:
        clean, right = np.concatenate(self._clean), np.stack(self._corrupted)
        attacks = [_attack_score(parts, len(clean)) for parts in zip(*self._trials, strict=True)]
        notes = [] if self._is_attacked else [NO_GRADIENT]
        if self._is_attacked and self._subject.side_px > SMALL_IMAGE_PX:
            notes.append(FEW_STEPS)
        return Robustness(
            images=len(clean),
            **_share("clean_accuracy", int(clean.sum()), len(clean)),
            **{f"{score.attack}_{score.epsilon}_accuracy": score.accuracy for score in attacks},
            **_corruption_figures(right, clean, seed),
            attacks=attacks,
            corruptions=list(_corruption_scores(right)),
            notes=notes,
        )


def _copies(image: np.ndarray, image_id: str, side_px: int) -> Iterator[np.ndarray]:
    """The image under every corruption at every severity."""
    small = within(image, side_px)
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            yield corrupt(small, name, severity, image_id)


def _attack_score(parts: Sequence[robustness.Trial], images: int) -> AttackScore:
    """One attack within one ball, over all batches."""
    first = parts[0]
    standing = sum(int(part.standing.sum()) for part in parts)
    return AttackScore(
        attack=first.attack,
        epsilon=first.epsilon,
        steps=first.steps,
        images=sum(int(part.tried.sum()) for part in parts),
        **_share("accuracy", standing, images),
    )


def _corruption_scores(right: NDArray[np.bool_]) -> Iterator[CorruptionScore]:
    """``right``: [images, corruptions, severities]."""
    for row, name in enumerate(CORRUPTIONS):
        for column, severity in enumerate(SEVERITIES):
            hits = int(right[:, row, column].sum())
            yield CorruptionScore(corruption=name, severity=severity, **_share("accuracy", hits, len(right)))


def _corruption_figures(right: NDArray[np.bool_], clean: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    by_image, by_name = right.mean(axis=(1, 2)), right.mean(axis=(0, 2))
    bounds = intervals.of_mean(by_image, resamples=RESAMPLES, seed=derive(seed, "bootstrap", "corruptions"))
    worst = int(by_name.argmin())
    return {
        "corruption_accuracy": float(by_image.mean()),
        "corruption_accuracy_low": bounds.low,
        "corruption_accuracy_high": bounds.high,
        "corruption_ratio": float(by_image.mean() / clean.mean()) if clean.any() else None,
        "worst_corruption_accuracy": float(by_name[worst]),
        "worst_corruption": [list(CORRUPTIONS)[worst]],
    }


def _share(name: str, hits: int, images: int) -> dict[str, float]:
    bounds = intervals.wilson(hits, images)
    assert bounds is not None, "there is at least one image"
    return {name: hits / images, f"{name}_low": bounds.low, f"{name}_high": bounds.high}
