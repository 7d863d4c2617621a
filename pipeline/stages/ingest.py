"""Ingest: from two data sources to two inventories, a label space, and shards for images that have no file."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.core import plugins
from pipeline.core.context import Context, Result
from pipeline.core.errors import DataError
from pipeline.core.files import Folder
from pipeline.core.params import Params as BaseParams
from pipeline.core.params import PluginParams, chosen_by_name
from pipeline.core.progress import Meter

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.data.inspection_cache import InspectionCache
    from pipeline.data.labels import LabelSpace
    from pipeline.data.shards import ShardWriter
    from pipeline.data.sources._record import Record, Records

SOURCES = "pipeline.data.sources"

PACKED_AT_ONCE = 50_000
"""Rows that are Python objects at a time."""

SURPRISING_SHARE = 0.1
"""A test split that is so much larger or smaller than ``test_share`` is told."""


class NearDuplicates(BaseParams):
    """When two pictures count as one, so that they are never in two splits."""

    max_distance: int = Field(
        default=2, ge=0, le=8, description="Bits of 64 in which their perceptual hashes may differ."
    )
    min_side_px: int = Field(default=48, ge=1, description="Smaller images are compared by their bytes only.")


class Params(BaseParams):
    """Where the images come from, and how they are divided."""

    target: chosen_by_name(SOURCES) = Field(  # type: ignore[valid-type]
        {"name": "handwritten_digits", "labels_per_class": 5, "test_share": 0.5},
        description="The images to classify.",
    )
    source: chosen_by_name(SOURCES) | None = Field(  # type: ignore[valid-type]
        {"name": "rendered_digits", "images_per_class": 300},
        description="Labelled images of another domain to transfer from; null = none.",
    )
    classes: list[str] | None = Field(
        None,
        description="The model's answers, in order; null takes those that occur. For a checkpoint's own classes where "
        "no image is labelled.",
    )
    label_map: dict[str, str] = Field({}, description="Source class → target class, where their names differ.")
    val_share: float = Field(0.2, ge=0, lt=1, description="Share of the labelled training images kept for validation.")
    test_share: float = Field(0.2, ge=0, lt=1, description="Share kept for the final score, where none is given.")
    near_duplicates: NearDuplicates = NearDuplicates()


@dataclass(frozen=True)
class _Domain:
    """One domain's images, looked at once and not yet divided."""

    rows: pd.DataFrame
    left_out: Counter[str] = field(default_factory=Counter)
    undecodable: tuple[str, ...] = ()


def run(params: Params, context: Context) -> Result:
    """Look at every image once, decide its split, and settle the classes; equal files and seed give equal outputs."""
    import pandas as pd

    from pipeline.data.inspection_cache import InspectionCache
    from pipeline.data.manifest import Manifest
    from pipeline.data.near_duplicates import components

    with _shard_folder(context) as shards, InspectionCache(context.cache) as cache:
        target = _inspected("target", params.target, context, shards, cache)
        source = _Domain(_Rows().frame())
        if params.source:
            source = _inspected("source", params.source, context, shards, cache)
    label_space = _settle_labels(params, target.rows, source.rows)
    images = pd.concat([target.rows, source.rows], ignore_index=True)
    parts = components(images, **params.near_duplicates.model_dump())
    images[["split", "split_given"]] = _divided(images, parts, params, context.seed)
    target_rows, source_rows = (images[images["domain"] == domain] for domain in ("target", "source"))
    return Result(
        line=_line(
            images,
            parts,
            label_space,
            params.test_share,
            target.left_out + source.left_out,
            target.undecodable + source.undecodable,
        ),
        outputs={
            "shards": Folder(shards),
            "source_inventory": Manifest.of(source_rows[source.rows.columns]),  # each with its own slices only
            "target_inventory": Manifest.of(target_rows[target.rows.columns]),
            "label_space": label_space,
        },
    )


def listed(params: Params, context: Context) -> list[str]:
    """What ingest will find in the user's own folders and tables, by names alone: no image is opened. A line for each.

    Where a domain is made or downloaded, its labels are not known yet, and the classes are not compared.

    Raises:
        DataError, ParamsError: what :func:`run` would raise before it looks at an image.
    """
    import pandas as pd

    domains = {"target": params.target, "source": params.source} if params.source else {"target": params.target}
    found: dict[str, pd.DataFrame] = {}
    lines = []
    for domain, chosen in domains.items():
        if plugins.load(SOURCES, chosen.name).location(chosen) is None:
            continue
        with _naming_the_setting(domain):
            records = plugins.load(SOURCES, chosen.name).records(chosen, context)
            found[domain] = pd.DataFrame({"label": [_label(record) for record in records]}, dtype="str")
        lines.append(_listed_line(domain, found[domain]["label"], records))
    if len(found) == len(domains):
        _settle_labels(params, found["target"], found.get("source", pd.DataFrame({"label": []}, dtype="str")))
    return lines


# -- looking at the images ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _shard_folder(context: Context) -> Iterator[Path]:
    """An empty folder to fill; removed if ingest fails. A killed run's remains are cleared first."""
    folder = (context.scratch or Path(tempfile.mkdtemp(prefix="graftline-"))) / "shards"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _inspected(domain: str, chosen: PluginParams, context: Context, shards: Path, cache: InspectionCache) -> _Domain:
    """Every image of one domain, looked at once; those without a file go into a shard on the way."""
    from pipeline.data.inspection_stream import inspect_all
    from pipeline.data.shards import ShardWriter

    rows = _Rows()
    with _naming_the_setting(domain), ShardWriter(shards, domain) as writer:
        records = plugins.load(SOURCES, chosen.name).records(chosen, context)
        root = os.path.abspath(context.workspace) + os.sep
        meter = Meter(what=f"ingest {domain}", unit="images", total=records.total)
        looking = inspect_all(records, lambda record: record.content, cache, context.workers, total=records.total)
        with contextlib.closing(looking) as looked_at:  # before the cache is, which threads may still be filling
            for record, seen in looked_at:
                rows.add(_place(record, writer, root) | seen._asdict() | _said(record, domain))
                meter.advance()
        meter.close()
    return _Domain(rows.frame(), records.left_out, tuple(records.undecodable))


def _place(record: Record, writer: ShardWriter, root: str) -> dict[str, Any]:
    """Where the manifest finds the image again; a file keeps its place, bytes get one in a shard."""
    from pipeline.data.shards import LOCATION

    if isinstance(record.content, bytes):
        place = writer.add(record.name, record.content)
        return {"path": f"{LOCATION}/{place.shard}", "offset": place.offset, "length": place.length}
    file = os.path.abspath(record.content)
    return {"path": file.removeprefix(root).replace(os.sep, "/") if file.startswith(root) else file}


def _said(record: Record, domain: str) -> dict[str, Any]:
    """What the source said of the image. A slice that bears the name of a manifest column becomes ``user_<name>``."""
    from pipeline.data.manifest import COLUMNS

    slices = {f"user_{name}" if name in COLUMNS else name: value for name, value in record.extras.items()}
    return slices | {
        "name": record.name,
        "label": _label(record),
        "domain": domain,
        "split": record.split,
        "group": record.group,
    }


def _label(record: Record) -> str | None:
    return None if record.label is None else unicodedata.normalize("NFC", record.label)  # macOS writes é as two


class _Rows:
    """Rows as they come, packed into columns now and then: a row takes 1,000 bytes as objects and 300 when packed."""

    def __init__(self) -> None:
        self._loose: list[dict[str, Any]] = []
        self._packed: list[pd.DataFrame] = []
        self._slices: dict[str, list[Any]] = {}
        self._count = 0

    def add(self, row: dict[str, Any]) -> None:
        """Slices are kept as they are: only all of their values together say of what type a column is."""
        from pipeline.data.manifest import COLUMNS

        for name in [name for name in row if name not in COLUMNS]:
            values = self._slices.setdefault(name, [])
            values += [None] * (self._count - len(values))
            values.append(row.pop(name))
        self._loose.append(row)
        self._count += 1
        if len(self._loose) == PACKED_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        import pandas as pd

        from pipeline.data.manifest import COLUMNS

        rows = pd.DataFrame(self._loose, columns=[*COLUMNS])
        self._packed.append(rows.assign(split_given=False).astype(COLUMNS))
        self._loose = []

    def frame(self) -> pd.DataFrame:
        """All rows, in the manifest's form: every column of it is present and typed."""
        import pandas as pd

        from pipeline.data.manifest import Manifest

        self._pack()
        rows = pd.concat(self._packed, ignore_index=True)
        slices = {name: values + [None] * (self._count - len(values)) for name, values in self._slices.items()}
        return Manifest.of(rows.assign(**slices)).frame


@contextlib.contextmanager
def _naming_the_setting(domain: str) -> Iterator[None]:
    """A source knows its own parameter's name only; say whose it is."""
    try:
        yield
    except DataError as error:
        raise DataError(
            expected=error.expected,
            found=error.found,
            where=f"ingest.{domain}.{error.where}",
            remedy=error.remedy,
        ) from error


# -- labels and splits -------------------------------------------------------------------------------------------------


def _settle_labels(params: Params, target: pd.DataFrame, source: pd.DataFrame) -> LabelSpace:
    """Put the source's labels into the target's words, in place, and say which classes there are."""
    from pipeline.data.labels import LabelSpace, check_label_map

    answers, known = target["label"].dropna().unique(), source["label"].dropna().unique()
    check_label_map(params.label_map, known, params.classes or answers)
    source["label"] = source["label"].replace(params.label_map)
    space = LabelSpace.between(answers, source["label"].dropna().unique(), params.classes)
    if len(space.classes) == 1:
        raise DataError(
            expected="images of at least two classes",
            found=f"one class only, '{space.classes[0]}'",
            where="ingest.target in params.yaml",
            remedy="Give the folder that holds a folder per class, or a table with two labels or more.",
        )
    return space


def _divided(images: pd.DataFrame, parts: np.ndarray, params: Params, seed: int) -> pd.DataFrame:
    """Columns ``split`` and ``split_given``; a source image that belongs to a held-out target image is held out too."""
    import pandas as pd

    from pipeline.data import splits

    assign = partial(splits.assign, val_share=params.val_share, test_share=params.test_share, seed=seed)
    divided: list[pd.DataFrame] = []
    held_out: dict[int, str] = {}
    for domain in ("target", "source"):
        here = (images["domain"] == domain).to_numpy()
        divided.append(assign(images[here], parts[here], held_out=held_out))
        held_out = splits.held_out_in(divided[-1]["split"], parts[here])
    return pd.concat(divided)


# -- the line ----------------------------------------------------------------------------------------------------------


def _line(
    images: pd.DataFrame,
    parts: np.ndarray,
    labels: LabelSpace,
    test_share: float,
    left_out: Counter[str],
    undecodable: Sequence[str],
) -> str:
    """Counts of everything, and whatever a person should look at."""
    pieces = [_domain_line("target", images), _domain_line("source", images), f"{len(labels.classes)} classes"]
    pieces += _classes_apart(images, labels)
    unreadable = int(images["error"].notna().sum())
    joined = len(images) - len(set(parts)) if images["group"].isna().all() else 0
    pieces += [f"{unreadable:,} unreadable"] if unreadable else []
    pieces += [f"{joined:,} duplicates or near-duplicates kept together"] if joined else []
    pieces += _test_drawn(images[(images["domain"] == "target") & images["error"].isna()], test_share)
    pieces += [_left_out(left_out)] if left_out else []
    pieces += [_left_unnamed(undecodable)] if undecodable else []
    return " · ".join(piece for piece in pieces if piece)


def _test_drawn(target: pd.DataFrame, share: float) -> list[str]:
    """Where the test split may be another than the user thinks."""
    given, test = target["split_given"], target["split"] == "test"
    if not test.any() or (given & test).any():
        return []
    pieces = ["no image names test: it was drawn from the others"] if given.any() else []
    if abs(test.mean() - share) > SURPRISING_SHARE:
        pieces.append(f"test is {test.mean():.0%} for {share:.0%}: drawn by content, of few images or in large groups")
    return pieces


def _listed_line(domain: str, labels: pd.Series, records: Records) -> str:
    """``target: 933 images of 10 classes, 12 of them unlabelled · 7 other files left out (.txt)``."""
    unlabelled = int(labels.isna().sum())
    pieces = [f"{domain}: {len(labels):,} images of {labels.nunique()} classes"]
    pieces[0] += f", {unlabelled:,} of them unlabelled" if unlabelled else ""
    pieces += [_left_out(records.left_out)] if records.left_out else []
    pieces += [_left_unnamed(records.undecodable)] if records.undecodable else []
    return " · ".join(pieces)


def _left_out(files: Counter[str]) -> str:
    """``7 other files left out (.heic, .txt)``: a class may have vanished with them."""
    kinds = sorted(filter(None, files), key=lambda suffix: (-files[suffix], suffix))
    named = f" ({', '.join(kinds[:4])}{', …' * (len(kinds) > 4)})" if kinds else ""
    return f"{files.total():,} other file{'s' * (files.total() > 1)} left out{named}"


def _left_unnamed(names: Sequence[str]) -> str:
    many = "1 image left out, whose name is" if len(names) == 1 else f"{len(names):,} images left out, whose names are"
    return f"{many} not UTF-8 (rename to use): {', '.join(names[:3])}{', …' * (len(names) > 3)}"


def _domain_line(domain: str, images: pd.DataFrame) -> str:
    """``target 1,797 images (40 train, 10 val, 899 test labelled; 848 unlabelled)``."""
    here = images[images["domain"] == domain]
    if here.empty:
        return ""
    counts = here[here["label"].notna()]["split"].value_counts()
    labelled = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "val", "test") if split in counts)
    unlabelled = int(here["label"].isna().sum())
    inside = [f"{labelled} labelled"] * bool(labelled) + [f"{unlabelled:,} unlabelled"] * bool(unlabelled)
    return f"{domain} {len(here):,} images ({'; '.join(inside)})"


def _classes_apart(images: pd.DataFrame, labels: LabelSpace) -> list[str]:
    """Classes that do not meet, where both domains have labels."""
    if (images["domain"] == "source").sum() == 0 or not labels.shared:
        return ["source and target share no class"] * bool(labels.target_only)
    apart = [("source only", labels.source_only), ("target only", labels.target_only)]
    return [f"{where}: {', '.join(names[:8])}{', …' * (len(names) > 8)}" for where, names in apart if names]
