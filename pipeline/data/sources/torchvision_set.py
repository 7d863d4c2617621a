"""The data sets that torchvision knows, from a folder that holds them already or by download.

An official test part stays the test part, and what torchvision calls val stays val. Adding a set is adding a row to
:data:`SETS`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, field_validator

from pipeline.core.errors import DataError, ServiceError
from pipeline.core.lean_imports import without_compiler
from pipeline.core.params import PluginParams
from pipeline.data.sources._record import Record, Records, in_params

if TYPE_CHECKING:
    from pipeline.core.context import Context

SUMMARY = "Data sets that torchvision knows (CIFAR10, STL10, MNIST, EuroSAT, …), from a local root or by download."


class Part(NamedTuple):
    """One part of a set: our split, and what torchvision's class is to be called with."""

    split: str | None
    arguments: dict[str, Any]
    labelled: bool = True


class Set(NamedTuple):
    """How to ask torchvision for one set.

    ``classes`` overrides the names that torchvision gives, where it gives none or decorates them (``0 - zero``).
    """

    parts: tuple[Part, ...]
    classes: tuple[str, ...] | None = None


def _train_flag() -> tuple[Part, ...]:
    return Part("train", {"train": True}), Part("test", {"train": False})


def _splits(**ours_to_theirs: str) -> tuple[Part, ...]:
    return tuple(Part(ours, {"split": theirs}) for ours, theirs in ours_to_theirs.items())


UNDIVIDED = (Part(None, {}),)
DIGITS = tuple("0123456789")

SETS: dict[str, Set] = {
    "CIFAR10": Set(_train_flag()),
    "CIFAR100": Set(_train_flag()),
    "Country211": Set(_splits(train="train", val="valid", test="test")),
    "DTD": Set(_splits(train="train", val="val", test="test")),
    "EuroSAT": Set(UNDIVIDED),
    "FGVCAircraft": Set(_splits(train="train", val="val", test="test")),
    "FashionMNIST": Set(_train_flag()),
    "Flowers102": Set(_splits(train="train", val="val", test="test")),
    "Food101": Set(_splits(train="train", test="test")),
    "GTSRB": Set(_splits(train="train", test="test"), classes=tuple(f"{number:02d}" for number in range(43))),
    "Imagenette": Set(_splits(train="train", test="val")),
    "KMNIST": Set(_train_flag()),
    "MNIST": Set(_train_flag(), classes=DIGITS),
    "OxfordIIITPet": Set(_splits(train="trainval", test="test")),
    "STL10": Set((*_splits(train="train", test="test"), Part("train", {"split": "unlabeled"}, labelled=False))),
    "SUN397": Set(UNDIVIDED),
    "SVHN": Set(_splits(train="train", test="test"), classes=DIGITS),
    "USPS": Set(_train_flag(), classes=DIGITS),
}
"""By the name of torchvision's class. Imagenette's second part is the one that results are reported on, hence test."""


class Params(PluginParams):
    """Which set, and where its files are."""

    name: str = "torchvision_set"
    dataset: str = Field(description=f"One of {', '.join(SETS)}.")
    root: str = Field("torchvision", description="The folder that torchvision is given, relative to the workspace.")
    download: bool = Field(False, description="Fetch what is missing; torchvision checks the digests.")

    @field_validator("dataset")
    @classmethod
    def _known(cls, dataset: str) -> str:
        if dataset not in SETS:
            raise ValueError(f"unknown data set '{dataset}'; there are: {', '.join(SETS)}")
        return dataset


def location(params: Params) -> str | None:
    """None with ``download``: what ingest itself puts there cannot be a dependency; torchvision checks its digests."""
    return None if params.download else params.root


def records(params: Params, context: Context) -> Records:
    """All parts of the set, one after the other.

    Raises:
        DataError: the set is not in ``root``.
        ServiceError: a download failed.
    """
    root = context.workspace / Path(params.root).expanduser()
    parts = [(part, _open(params, part, root)) for part in SETS[params.dataset].parts]
    total = sum(len(dataset) for _, dataset in parts)
    items = chain.from_iterable(_records(params.dataset, part, dataset, root) for part, dataset in parts)
    return Records(items, total=total)


def _open(params: Params, part: Part, root: Path) -> Any:
    """torchvision's data set for one part; its errors become ours."""
    from urllib.error import URLError

    with without_compiler():
        from torchvision import datasets

    arguments = part.arguments | ({"download": True} if params.download else {})
    try:
        return getattr(datasets, params.dataset)(root=str(root), **arguments)
    except URLError as error:
        raise ServiceError(f"{params.dataset} could not be downloaded: {error.reason}") from error
    except (RuntimeError, OSError, ValueError) as error:  # "not found or corrupted", a missing file, an empty folder
        raise DataError(
            expected=f"torchvision's {params.dataset} {part.arguments or ''} in {root}".replace("  ", " "),
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            where=in_params("root"),
            remedy="Set `download: true`, or `root` to the folder that you would give to torchvision.",
        ) from error


def _records(name: str, part: Part, dataset: Any, root: Path) -> Iterator[Record]:
    classes = SETS[name].classes or tuple(map(_first_name, dataset.classes))
    for content, path, target in _items(dataset, part, root):
        label = classes[target] if part.labelled else None
        yield Record(content=content, name=path, label=label, split=part.split)


def _first_name(names: str | tuple[str, ...]) -> str:
    """Imagenette gives each class all its synonyms."""
    return names if isinstance(names, str) else names[0]


def _items(dataset: Any, part: Part, root: Path) -> Iterator[tuple[Path | bytes, str, int]]:
    """Content, name and class number: files as they are, where the set consists of files; else images out of arrays."""
    files = _files(dataset)
    if files is not None:
        for path, target in sorted((Path(path), target) for path, target in files):
            yield path, path.relative_to(root).as_posix(), target
        return
    folder = (part.split or "all") if part.labelled else "unlabelled"
    for number in range(len(dataset)):
        image, target = dataset[number]
        yield _png(image), f"{folder}/{number:06d}.png", int(target)


def _files(dataset: Any) -> list[tuple[str | Path, int]] | None:
    """Paths and class numbers, under whichever of four names this class of torchvision keeps them."""
    for name in ("samples", "_samples"):  # ImageFolder and its like
        if hasattr(dataset, name):
            return list(getattr(dataset, name))
    for name in ("_image_files", "_images"):
        if hasattr(dataset, name) and hasattr(dataset, "_labels"):
            return list(zip(getattr(dataset, name), dataset._labels, strict=True))
    return None


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
