"""What a data set looks like in figures, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

from pipeline.core import digests
from pipeline.core.files import Document

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.data.manifest import Manifest

Domain = Literal["target", "source"]

QUANTILES = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


class Quantiles(Document):
    """Of one measure over the images of a domain; each is a value that occurs (no interpolation)."""

    min: int
    p05: int
    median: int
    p95: int
    max: int


class DomainProfile(Document):
    """One domain in figures. Counts are of images."""

    images: int = 0
    labelled: int = 0
    classes: dict[str, int] = {}
    """Labelled images per class, over all splits."""
    splits: dict[str, int] = {}
    modes: dict[str, int] = {}
    formats: dict[str, int] = {}
    width_px: Quantiles | None = None
    height_px: Quantiles | None = None
    ids_digest: str = ""
    """Of the sorted image ids: equal digests, equal images."""
    labels_digest: str = ""
    """Of the sorted (id, label) pairs: it also changes when an image gets another label."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        frame = manifest.frame
        if frame.empty:
            return cls()
        labels = frame["label"].astype(object).where(frame["label"].notna(), None)
        return cls(
            images=len(frame),
            labelled=int(frame["label"].notna().sum()),
            classes=_counts(frame["label"]),
            splits=_counts(frame["split"]),
            modes=_counts(frame["mode"]),
            formats=_counts(frame["format"]),
            width_px=_quantiles(frame["width"]),
            height_px=_quantiles(frame["height"]),
            ids_digest=digests.of_json(sorted(frame["id"])),
            labels_digest=digests.of_json(sorted(zip(frame["id"], labels, strict=True), key=repr)),
        )

    @property
    def label_shares(self) -> dict[str, float]:
        """Each class's share of the labelled images, in [0, 1]; empty without labels."""
        return {label: count / self.labelled for label, count in self.classes.items()}


class DataProfile(Document):
    """Both domains. The flow keeps the last run's, so that the next can say what changed and measure drift."""

    target: DomainProfile = DomainProfile()
    source: DomainProfile = DomainProfile()

    @classmethod
    def empty(cls) -> Self:
        """Stands for "there was no last run"."""
        return cls()

    @classmethod
    def of(cls, *, target: Manifest, source: Manifest) -> Self:
        return cls(target=DomainProfile.of(target), source=DomainProfile.of(source))

    @property
    def is_empty(self) -> bool:
        return self == DataProfile()


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}


def _quantiles(sizes: pd.Series) -> Quantiles | None:
    known = sizes.dropna().astype("int64")
    if known.empty:
        return None
    return Quantiles(**{name: int(known.quantile(q, interpolation="lower")) for name, q in QUANTILES.items()})


class Change(Document):
    """One count that is not what it was in the last run."""

    domain: Domain
    what: Literal["images", "labelled", "class", "split", "mode", "format", "content"]
    name: str | None = None
    """Which class, split, mode or format; None for the others."""
    before: int
    after: int

    @property
    def sentence(self) -> str:
        """``+50 images``, ``class '7' 5 → 10``, or that pictures or labels were exchanged while the counts stayed."""
        if self.what == "content":
            return "other images or labels, in the same number"
        if self.name is None:
            noun = "image" if self.what == "images" and abs(self.after - self.before) == 1 else self.what
            return f"{self.after - self.before:+,} {noun}"
        return f"{self.what} '{self.name}' {self.before:,} → {self.after:,}"


def changes(before: DataProfile, after: DataProfile) -> list[Change]:
    """What differs, target first, larger matters first; empty when nothing does or when there was no last run."""
    if before.is_empty:
        return []
    return [
        *_domain_changes("target", before.target, after.target),
        *_domain_changes("source", before.source, after.source),
    ]


def _domain_changes(domain: Domain, before: DomainProfile, after: DomainProfile) -> Iterator[Change]:
    totals = [
        Change(domain=domain, what="images", before=before.images, after=after.images),
        Change(domain=domain, what="labelled", before=before.labelled, after=after.labelled),
    ]
    counted = [change for change in totals if change.before != change.after]
    counted += _count_changes(domain, "class", before.classes, after.classes)
    counted += _count_changes(domain, "split", before.splits, after.splits)
    counted += _count_changes(domain, "mode", before.modes, after.modes)
    counted += _count_changes(domain, "format", before.formats, after.formats)
    yield from counted
    if not counted and before.labels_digest != after.labels_digest:
        yield Change(domain=domain, what="content", before=before.images, after=after.images)


def _count_changes(
    domain: Domain,
    what: Literal["class", "split", "mode", "format"],
    before: dict[str, int],
    after: dict[str, int],
) -> list[Change]:
    from pipeline.data.labels import natural_key

    names = sorted(before.keys() | after.keys(), key=natural_key)
    counts = [(name, before.get(name, 0), after.get(name, 0)) for name in names]
    return [
        Change(domain=domain, what=what, name=name, before=old, after=new) for name, old, new in counts if old != new
    ]


def in_words(found: list[Change]) -> str:
    """``target: +50 images, +50 labelled, class '7' 5 → 10; source: -1 image``, or ``no change``."""
    domains = dict.fromkeys(change.domain for change in found)
    parts = [f"{domain}: " + ", ".join(c.sentence for c in found if c.domain == domain) for domain in domains]
    return "; ".join(parts) or "no change"
