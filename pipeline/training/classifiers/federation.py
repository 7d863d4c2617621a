"""What sites of a federation send one another: sums over their labelled images, never an image or its features."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.core.archives import check_not_packed
from pipeline.core.errors import DataError
from pipeline.core.files import replacing
from pipeline.training.classifiers.closed_form import Sums
from pipeline.training.classifiers.folds import take
from pipeline.training.classifiers.linear_probe import Head
from pipeline.training.task import Labelled, Task

WHERE = "train.strategy.statistics in params.yaml"


@dataclass(frozen=True)
class Statistics:
    """A site's contribution, as one ``.npz`` file."""

    sums: Sums
    classes: list[str]
    """In the order of the rows of the sums."""
    backbone_digest: str
    """Of the weights that the features came through."""
    preprocessing_digest: str

    @classmethod
    def of(cls, task: Task, min_count: int) -> Self:
        """Of all labelled images of the task (train and val; never test).

        Raises:
            DataError: no class has ``min_count`` images.
        """
        classes = len(task.classes)
        most = int(np.bincount(task.all_set.labels, minlength=classes).max(initial=0))
        if most < min_count:
            raise DataError(
                expected=f"a class with {min_count:,} labelled images to send sums over",
                found=f"{most:,} in the largest of {classes:,} classes",
                where="the target's train and val splits",
                remedy="Label more images, or lower --min-count; 2 is the least: a sum over one image is the image's.",
            )
        sums = Sums.of(without_rare(task.all_set, classes, min_count), classes)
        return cls(sums, task.classes, task.backbone.digest, task.backbone.preprocessing.digest)

    @property
    def told(self) -> str:
        """``sums over 120 images of 9 classes (2 with too few left out) × 512 features``"""
        present = int((self.sums.counts > 0).sum())
        rare = len(self.classes) - present
        without = f" ({rare} with too few left out)" if rare else ""
        return f"sums over {self.sums.count:,.0f} images of {present} classes{without} × {len(self.sums.mean)} features"

    def save(self, path: Path) -> None:
        with replacing(path) as fresh, fresh.open("wb") as file:
            np.savez(
                file,
                counts=self.sums.counts,
                totals=self.sums.totals,
                products=self.sums.products,
                classes=np.array(self.classes),
                digests=np.array([self.backbone_digest, self.preprocessing_digest]),
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what another site wrote; nothing in it is executed.

        Raises:
            DataError: the file is not there, or is no contribution.
        """
        try:
            check_not_packed(path)
            with np.load(path, allow_pickle=False) as held:
                values = {name: held[name] for name in ("counts", "totals", "products", "classes", "digests")}
            backbone_digest, preprocessing_digest = map(str, values["digests"])
        except (OSError, EOFError, ValueError, KeyError, TypeError, MemoryError, zipfile.BadZipFile) as error:
            raise _refused(path, "a contribution of another site", f"{type(error).__name__}: {error}") from None
        sums = Sums(*(values[name].astype(np.float64) for name in ("counts", "totals", "products")))
        _check_shapes(sums, len(values["classes"]), path)
        return cls(sums, values["classes"].tolist(), backbone_digest, preprocessing_digest)

    def check_fits(self, task: Task, path: Path) -> None:
        """The sums are over the same features and the same classes.

        Raises:
            DataError: naming what differs.
        """
        if self.classes != task.classes:
            raise _refused(path, f"the classes {', '.join(task.classes)}", f"the classes {', '.join(self.classes)}")
        for what, ours, theirs in (
            ("backbone weights", task.backbone.digest, self.backbone_digest),
            ("preprocessing", task.backbone.preprocessing.digest, self.preprocessing_digest),
        ):
            if ours != theirs:
                raise _refused(path, f"features through the {what} {ours[:12]}…", f"{theirs[:12]}…")


def _check_shapes(sums: Sums, classes: int, path: Path) -> None:
    feature_dim = sums.products.shape[-1] if sums.products.ndim == 2 else -1
    shapes = (sums.counts.shape, sums.totals.shape, sums.products.shape)
    wanted = ((classes,), (classes, feature_dim), (feature_dim, feature_dim))
    finite = all(np.isfinite(values).all() for values in (sums.counts, sums.totals, sums.products))
    if shapes != wanted or not finite or (sums.counts < 0).any():
        raise _refused(path, "finite sums over one set of classes and features", f"arrays of shapes {shapes}")


def _refused(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        expected=f"{expected} in {path.name}",
        found=found,
        where=WHERE,
        remedy="Let the site write it anew with graftline contribute, from the same backbone, image size and classes.",
    )


# -- the sites of one task ---------------------------------------------------------------------------------------------


def sites_of(task: Task, column: str | None) -> np.ndarray:
    """The site of every row of ``Task.all_set``, as numbers int64 [n]; all 0 without a column.

    Raises:
        DataError: the labelled images have no such column, or not each of them a value in it.
    """
    frames = [task.train.frame, task.val.frame]
    if column is None:
        return np.zeros(sum(map(len, frames)), dtype=np.int64)
    slices = task.train.slices
    found = f"the columns {', '.join(slices)}" if slices else "no column of your own"
    if column in slices:
        missing = sum(int(frame[column].isna().sum()) for frame in frames)
        if not missing:
            _, numbers = np.unique([str(name) for frame in frames for name in frame[column]], return_inverse=True)
            return numbers.astype(np.int64)
        found = f"{missing:,} labelled images without a value in '{column}'"
    raise DataError(
        expected=f"the site of each labelled image in the manifest's column '{column}'",
        found=found,
        where="train.strategy.site in params.yaml",
        remedy="Give the images as a table with such a column, or set site: null where this workspace is one site.",
    )


def parts_of(data: Labelled, sites: np.ndarray) -> list[Labelled]:
    """Each site's rows; ``sites`` int64 [n]."""
    return [take(data, np.flatnonzero(sites == site)) for site in np.unique(sites)]


def without_rare(data: Labelled, classes: int, min_count: int) -> Labelled:
    """What a site takes part with: of a class with fewer than ``min_count`` images none, as their sum tells of them."""
    counts = np.bincount(data.labels, minlength=classes)
    return take(data, np.flatnonzero(counts[data.labels] >= min_count))


def merged(parts: Sequence[Labelled], others: Sequence[Sums], classes: int, min_count: int) -> Sums:
    """The sums of all sites: those of this workspace, and those that ``others`` sent.

    Raises:
        DataError: no site has ``min_count`` images of any class.
    """
    total, *rest = [*(Sums.of(without_rare(part, classes, min_count), classes) for part in parts), *others]
    total = sum(rest, start=total)
    if (total.counts > 0).sum() < 2:
        raise DataError(
            expected=f"a site with {min_count:,} images, for at least two classes",
            found=f"{len(parts):,} site(s) of this workspace, too small for that once a part is held out to choose by",
            where="train.strategy.min_count in params.yaml",
            remedy="Lower it, or label more images at each site.",
        )
    return total


def contributions(task: Task, paths: Sequence[Path]) -> list[Sums]:
    """What other sites sent, each checked against the task.

    Raises:
        DataError: a file does not fit, or counts images that are counted already. Held-out images among them would be
            answered from memory, and every figure by which something is chosen would be a flattery.
    """
    counted = [("this workspace", Sums.of(task.all_set, len(task.classes)))]
    for path in paths:
        statistics = Statistics.load(path)
        statistics.check_fits(task, path)
        for name, sums in counted:
            if _share_a_class(sums, statistics.sums):
                raise DataError(
                    expected=f"images in {path.name} that nobody else counts",
                    found=f"a class whose sums are those of {name}",
                    where=WHERE,
                    remedy="Take the file out: it is a copy of another, or this workspace's own contribution.",
                )
        counted.append((path.name, statistics.sums))
    return [sums for _, sums in counted[1:]]


def _share_a_class(first: Sums, second: Sums) -> bool:
    """Is some class made of the same images in both? Different images have different sums."""
    same = (first.counts == second.counts) & (first.counts > 0)
    return bool((same & np.isclose(first.totals, second.totals, rtol=1e-9, atol=1e-9).all(axis=1)).any())


def told(parts: Sequence[Labelled], others: Sequence[Sums], classes: int, min_count: int) -> str:
    """Who took part, as a sentence; images that :func:`without_rare` leaves out are not counted."""
    here = [part for part in (without_rare(part, classes, min_count) for part in parts) if len(part)]
    elsewhere = f" and {len(others)} other(s) sent sums over {sum(other.count for other in others):,.0f} images"
    return (
        f"{len(here)} site(s) of this workspace took part with {sum(map(len, here)):,} images"
        f"{elsewhere if others else ''}; no image left its site."
    )


# -- federated averaging -----------------------------------------------------------------------------------------------


def fedavg_path(
    parts: Sequence[Labelled],
    sums: Sums,
    penalties: Sequence[float],
    *,
    rounds: int,
    local_steps: int,
    min_count: int = 1,
) -> Iterator[Head]:
    """For each penalty a logistic head by federated averaging (McMahan et al., AISTATS 2017).

    In each round every site takes ``local_steps`` full gradient steps on its own images from the common head, and the
    heads are averaged by the sites' image counts. The loss is that of ``probe``, on features standardised by the
    merged sums. The step is 1 / L, L the largest curvature of a site's loss (½ λ_max of its features' second moment;
    Böhning 1992), a number that each site tells.
    """
    known = np.flatnonzero(sums.counts > 0)
    mean, std = sums.mean, sums.std
    taking_part = [without_rare(part, len(sums.counts), min_count) for part in parts]
    local = [_Local.of(part, mean, std, known) for part in taking_part if len(part)]
    shares = np.array([len(site.truth) for site in local]) / sum(len(site.truth) for site in local)
    curvature = max(site.curvature for site in local)
    for penalty in penalties:
        common = np.zeros((len(known), len(mean) + 1))
        for _ in range(rounds):
            heads = [site.descend(common, penalty, 1 / (curvature + penalty), local_steps) for site in local]
            common = np.tensordot(shares, np.stack(heads), axes=1)
        weight = common[:, :-1] / std
        yield Head.of_known(known, weight, common[:, -1] - weight @ mean, len(sums.counts))


@dataclass(frozen=True)
class _Local:
    """What stays at its site: standardised features with a one behind them [n, D + 1], one-hot labels [n, known]."""

    rows: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, data: Labelled, mean: np.ndarray, std: np.ndarray, known: np.ndarray) -> Self:
        rows = np.concatenate([(data.features - mean) / std, np.ones((len(data), 1))], axis=1)
        return cls(rows, (data.labels[:, None] == known).astype(np.float64))

    @property
    def curvature(self) -> float:
        short = self.rows if len(self.rows) >= self.rows.shape[1] else self.rows.T
        return float(np.linalg.eigvalsh(short.T @ short)[-1]) / len(self.rows) / 2

    def descend(self, head: np.ndarray, penalty: float, step: float, steps: int) -> np.ndarray:
        penalised = np.append(np.ones(head.shape[1] - 1), 0.0) * penalty
        for _ in range(steps):
            logits = self.rows @ head.T
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            head = head - step * ((shares - self.truth).T @ self.rows / len(self.rows) + penalised * head)
        return head
