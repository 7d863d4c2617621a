"""Images in folders.

```
photos/cat/1.jpg                 one folder per class; folders further down belong to their class
photos/train/cat/1.jpg           the same below train, val and test (or training, valid, validation, testing)
photos/unlabelled/7.jpg          images without a label, beside the classes or below a split
photos/7.jpg                     likewise: an image in no class folder has no label
```

An image whose path below the folder is not UTF-8 is left out, and ingest names it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.core.errors import DataError
from pipeline.core.files import escaped, is_unicode
from pipeline.core.params import PluginParams
from pipeline.data.image_files import SUFFIXES, is_image_name
from pipeline.data.sources._record import SPLIT_NAMES, Record, Records, in_params

if TYPE_CHECKING:
    from pipeline.core.context import Context

SUMMARY = (
    "Images in class folders, optionally below train/val/test; unlabelled images in `unlabelled/` or in no folder."
)

UNLABELLED = frozenset({"unlabelled", "unlabeled"})

Parts = tuple[str, ...]
"""Of a path below the folder: pathlib would take half the time of a look at files that have not changed."""


class Params(PluginParams):
    """Where the folder is."""

    name: str = "image_folder"
    path: str = Field(description="The folder, relative to the workspace or absolute.")


def location(params: Params) -> str | None:
    return os.path.expanduser(params.path)


def records(params: Params, context: Context) -> Records:
    """Every image below the folder, in the order of their paths.

    Raises:
        DataError: no such folder, no image in it that can be named, or split folders mixed with others.
    """
    root = context.workspace / Path(params.path).expanduser()
    _check_folder(root)
    images, undecodable, others = _listing(root)
    if not images:
        raise _no_names(root, undecodable) if undecodable else _no_images(root, others)
    _check_depth(root, images)
    in_splits = _has_splits(root, images)
    return Records(_records(root, images, in_splits), total=len(images), left_out=others, undecodable=undecodable)


def _check_folder(root: Path) -> None:
    if root.is_dir():
        return
    found, remedy = f"no such folder: {root}", "Correct the path; it is relative to the workspace."
    if root.is_file():
        is_table = root.suffix.lower() in (".csv", ".parquet", ".pq")
        found = f"a file, {root}"
        remedy = "Set the source's name to `table`." if is_table else "Unpack it and give the folder."
    raise DataError(expected="a folder of images", found=found, where=in_params("path"), remedy=remedy)


def _listing(root: Path) -> tuple[list[Parts], list[str], Counter[str]]:
    """Images below ``root`` in order, those whose paths are not UTF-8, and how many other files by suffix."""
    images: list[Parts] = []
    others: Counter[str] = Counter()
    for folder, files in _walk(root):
        inside = PurePath(os.path.relpath(folder, root)).parts
        names = [name for name in files if is_image_name(name)]
        images += [(*inside, name) for name in names]
        if len(names) < len(files):
            others.update(_kind(name) for name in files if not is_image_name(name))
    undecodable = [image for image in images if not is_unicode("".join(image))]
    if undecodable:
        images = [image for image in images if is_unicode("".join(image))]
    return sorted(images), sorted(escaped("/".join(image)) for image in undecodable), others


def _kind(name: str) -> str:
    """A file's suffix, as far as it is one: ``.heic``, but not what follows a full stop in a sentence."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if re.fullmatch(r"\.[a-z0-9_]{1,10}", suffix, re.ASCII) else ""


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders with their visible files; linked folders are followed once, so that a circle ends."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        identity = os.stat(folder)
        if (identity.st_dev, identity.st_ino) in seen:
            folders.clear()
            continue
        seen.add((identity.st_dev, identity.st_ino))
        yield folder, [name for name in files if not name.startswith(".")]


def _no_images(root: Path, others: Counter[str]) -> DataError:
    return DataError(
        expected=f"images ({', '.join(sorted(SUFFIXES))})",
        found=f"{others.total():,} other files and no image in {root}" if others else f"an empty folder, {root}",
        where=in_params("path"),
        remedy="Put images there, one folder per class, or give another folder.",
    )


def _no_names(root: Path, undecodable: list[str]) -> DataError:
    return DataError(
        expected="images whose names are UTF-8",
        found=f"{len(undecodable):,} whose names are not, in {root}: {', '.join(undecodable[:3])}",
        where=in_params("path"),
        remedy="Rename them; convmv -r -f latin1 -t utf8 does it for a whole folder of names in Latin-1.",
    )


def _check_depth(root: Path, images: list[Parts]) -> None:
    """One folder that holds nothing but folders is no class: the path stops one level too high."""
    top = images[0][0]
    too_high = all(image[0] == top and len(image) > 2 for image in images)
    if too_high and top.lower() not in SPLIT_NAMES | dict.fromkeys(UNLABELLED):
        raise DataError(
            expected="class folders, or train/val/test folders",
            found=f"a single folder, '{top}', that holds further folders, in {root}",
            where=in_params("path"),
            remedy=f"Give the folder below: {root / top}.",
        )


def _has_splits(root: Path, images: list[Parts]) -> bool:
    """Whether the top folders are train, val, test. One such name among others is a class (a `train` beside a `bus`).

    Raises:
        DataError: two or more of them among others; then nobody can tell.
    """
    tops = {image[0] for image in images if len(image) > 1}
    tops = {top for top in tops if top.lower() not in UNLABELLED}
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    if len(splits) > 1 and splits != tops:
        raise DataError(
            expected="either split folders or class folders",
            found=f"both: {', '.join(sorted(splits))} beside {', '.join(sorted(tops - splits)[:5])} in {root}",
            where=in_params("path"),
            remedy="Move the class folders into a split folder, or the others somewhere else.",
        )
    return bool(splits) and splits == tops


def _records(root: Path, images: list[Parts], in_splits: bool) -> Iterator[Record]:
    for image in images:
        folders = list(image[:-1])
        split = None
        if in_splits and folders and folders[0].lower() in SPLIT_NAMES:
            split = SPLIT_NAMES[folders.pop(0).lower()]
        label = folders[0] if folders and folders[0].lower() not in UNLABELLED else None
        yield Record(content=Path(root, *image), name="/".join(image), label=label, split=split)
