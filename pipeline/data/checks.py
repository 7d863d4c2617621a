"""The three tables that the suites look at. Whatever a check needs computed is a column here, so that a suite only has
to say what the column should hold. Null always means "nothing to say": a suite skips it.

**images**: one row per image of both domains; the manifest's columns (the user's slices too), and

- ``shorter_side_px``, ``longer_side_px``, ``aspect_ratio`` (longer over shorter);
- ``odd_mode``: its mode, where most images of its domain have another;
- ``copy_in``, ``group_in``, ``lookalike_in``: where its partner in another split is (:func:`find_leaks`); of a pair,
  the image nearer to train has it;
- ``copy_of``: the first file with the same bytes in its own split;
- ``label_conflict``: two labels that the same bytes carry;
- ``lookalike_conflict``: two labels that nearly the same picture carries, in other bytes.

**classes**: one row per class of the label space (``class``), and

- ``train``, ``val``, ``test``: labelled target images; null where that split has no label at all;
- ``source``: labelled source images; null without a source;
- ``teachers``: images to learn it from, in the source or in the target's train split; null where neither has a label;
- ``times_rarer``: how many times rarer in train than the largest class.

**drift**: one row per ``class``, now or in the last run: ``share``, ``share_last``, ``change`` (absolute), in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.data.labels import LabelSpace, natural_key
from pipeline.data.manifest import SPLITS, Manifest
from pipeline.data.near_duplicates import comparable, hashes_of, near_pairs
from pipeline.data.profile import DataProfile
from pipeline.data.validation import Leak, LeakKind, Place

Pair = tuple[LeakKind, int, int]
"""Two rows of the images table that leak, the earlier first."""

INDEX = {"images": ["domain", "name"], "classes": ["class"], "drift": ["class"]}
"""The columns that name a row of each table to people."""


# ── images ──


def images_table(
    images: pd.DataFrame, leaks: list[Pair], *, max_distance: int | None, min_side_px: int
) -> pd.DataFrame:
    """``images`` of both domains with their check columns; ``leaks`` as :func:`find_leaks` gives them, with the same
    limits of what counts as nearly the same picture."""
    sides = images[["width", "height"]].astype("Float64")
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    return images.assign(
        shorter_side_px=shorter.astype("Int64"),
        longer_side_px=longer.astype("Int64"),
        aspect_ratio=(longer / shorter).round(3),
        odd_mode=_odd_mode(images),
        copy_of=_copy_of(images),
        label_conflict=_label_conflict(images),
        lookalike_conflict=_lookalike_conflict(images, max_distance, min_side_px),
        **{f"{kind}_in": _partners(images, leaks, kind) for kind in ("copy", "group", "lookalike")},
    )


def both(target: Manifest, source: Manifest) -> pd.DataFrame:
    """Target rows, then source rows, numbered from 0."""
    frames = [manifest.frame for manifest in (target, source) if len(manifest)]
    return pd.concat(frames, ignore_index=True) if frames else target.frame


def find_leaks(images: pd.DataFrame, *, max_distance: int | None, min_side_px: int) -> list[Pair]:
    """Pairs of rows (kind, left, right), left < right, that tell the test or val split about another.

    ``copy``: equal bytes, in either domain. ``group``: the user's group, within a domain. ``lookalike``: perceptual
    hashes at most ``max_distance`` bits apart (None: not looked for), both images comparable, and one of the two in a
    split that the user gave; drawn splits keep them together by construction.
    """
    readable = images["error"].isna()
    split = images["split"]
    grouped = readable & images["group"].notna()
    kinds: dict[LeakKind, Iterator[tuple[int, int]]] = {
        "copy": _parted(images["id"].where(readable), split),
        "group": _parted((images["domain"] + "/" + images["group"]).where(grouped), split),
        "lookalike": _lookalikes(images[readable], max_distance, min_side_px),
    }
    found: dict[tuple[int, int], LeakKind] = {}
    for kind, pairs in kinds.items():
        for pair in pairs:
            found.setdefault(pair, kind)
    return [(kind, left, right) for (left, right), kind in sorted(found.items())]


def as_leak(images: pd.DataFrame, kind: LeakKind, left: int, right: int) -> Leak:
    return Leak(kind=kind, left=_place(images, left), right=_place(images, right))


def _place(images: pd.DataFrame, row: int) -> Place:
    return Place(**{column: str(images.at[row, column]) for column in ("domain", "split", "name")})


def _parted(keys: pd.Series, part: pd.Series) -> Iterator[tuple[int, int]]:
    """Rows with an equal key in unequal parts: each is paired with the first such row of another part."""
    known = keys.notna() & part.notna()
    keys, part = keys[known], part[known]
    parted = part.groupby(keys).transform("nunique") > 1
    for _, members in part[parted].groupby(keys[parted]):
        first_rows = members.drop_duplicates()
        firsts = list(zip(first_rows.index.tolist(), first_rows, strict=True))
        for row, own in zip(members.index.tolist(), members, strict=True):
            other = next(index for index, name in firsts if name != own)
            yield min(row, other), max(row, other)


def _lookalikes(images: pd.DataFrame, max_distance: int | None, min_side_px: int) -> Iterator[tuple[int, int]]:
    """Of images with one hash in one split, the first is paired with all that it looks like elsewhere, the others with
    the first of those: thousands of test cards on either side are thousands of pairs, and not millions."""
    if max_distance is None or not images["split_given"].any():
        return
    alike = comparable(images, min_side_px)
    which = ["phash", "split", "split_given"]
    firsts = alike.drop_duplicates(which)
    left, right = near_pairs(hashes_of(firsts), max_distance).T
    split, given = firsts["split"].to_numpy(dtype=object), firsts["split_given"].to_numpy(dtype=bool)
    leaking = (split[left] != split[right]) & (given[left] | given[right])
    rows = firsts.index.to_numpy()
    pairs = list(zip(rows[left[leaking]].tolist(), rows[right[leaking]].tolist(), strict=True))
    yield from pairs
    partner: dict[int, int] = {}
    for one, other in pairs:
        partner.setdefault(one, other)
        partner.setdefault(other, one)
    first_of = rows[alike.groupby(which, sort=False, dropna=False).ngroup().to_numpy()]
    for row, first in zip(alike.index.tolist(), first_of.tolist(), strict=True):
        if row != first and first in partner:
            yield min(row, partner[first]), max(row, partner[first])


def _partners(images: pd.DataFrame, leaks: list[Pair], kind: str) -> pd.Series:
    """Of each pair of this kind, told at the one nearer to train: where the other is. Each pair is told once."""
    place = {split: number for number, split in enumerate(SPLITS)}
    partner: dict[int, int] = {}
    for found, left, right in leaks:
        if found == kind:
            near, far = sorted((left, right), key=lambda row: place.get(str(images.at[row, "split"]), 0))
            partner.setdefault(near, far)
    return _texts(images, {row: str(_place(images, other)) for row, other in partner.items()})


def _label_conflict(images: pd.DataFrame) -> pd.Series:
    labels, names = images["label"], images["name"]
    texts: dict[int, str] = {}
    for left, right in _parted(images["id"].where(images["error"].isna()), labels):
        for row, other in ((left, right), (right, left)):
            texts.setdefault(row, f"'{labels[row]}' here, '{labels[other]}' as {names[other]}")
    return _texts(images, texts)


def _lookalike_conflict(images: pd.DataFrame, max_distance: int | None, min_side_px: int) -> pd.Series:
    """Two images of unequal bytes stand for all of their hash and label: a thousand test cards are a few comparisons,
    and all are told."""
    if max_distance is None:
        return _texts(images, {})
    labelled = comparable(images[images["error"].isna() & images["label"].notna()], min_side_px)
    each = labelled.drop_duplicates(["phash", "label", "id"]).groupby(["phash", "label"]).head(2)
    key, name, content = list(zip(each["phash"], each["label"], strict=True)), each["name"].array, each["id"].array
    partner: dict[tuple[str, str], int] = {}
    for left, right in near_pairs(hashes_of(each), max_distance).tolist():
        if key[left][1] != key[right][1] and content[left] != content[right]:
            partner.setdefault(key[left], right)
            partner.setdefault(key[right], left)
    texts = {
        row: f"'{own[1]}' here, '{key[partner[own]][1]}' as {name[partner[own]]}"
        for row, own in zip(
            labelled.index.tolist(), zip(labelled["phash"], labelled["label"], strict=True), strict=True
        )
        if own in partner
    }
    return _texts(images, texts)


def _copy_of(images: pd.DataFrame) -> pd.Series:
    readable = images[images["error"].isna()]
    where = ["id", "domain", "split"]
    repeated = readable[readable.duplicated(where)]
    first = readable.drop_duplicates(where).set_index(where)["name"]
    originals = [first[tuple(key)] for key in repeated[where].itertuples(index=False)]
    return _texts(images, dict(zip(repeated.index, originals, strict=True)))


def _odd_mode(images: pd.DataFrame) -> pd.Series:
    """The mode of each image that differs from its domain's most common one."""
    usual = images.groupby("domain")["mode"].transform(lambda modes: next(iter(modes.mode()), None))
    return images["mode"].where(images["mode"] != usual)


def _texts(images: pd.DataFrame, texts: dict[int, str]) -> pd.Series:
    return pd.Series(texts, index=images.index, dtype="str")


# ── classes ──


def classes_table(target: Manifest, source: Manifest, label_space: LabelSpace) -> pd.DataFrame:
    """Labelled images of each class; see the table above."""
    classes = label_space.classes
    labels = target.frame.set_index("split")["label"].dropna()
    counts = {split: labels[labels.index == split].value_counts() for split in SPLITS}
    table = pd.DataFrame({"class": pd.Series(classes, dtype="str")})
    for split, found in counts.items():
        table[split] = _per_class(found, classes, known=bool(len(found)))
    # A target with val labels and none in train has lost its training labels; one with neither is unlabelled.
    if len(counts["val"]) and not len(counts["train"]):
        table["train"] = _per_class(counts["train"], classes, known=True)
    taught = source.frame["label"].value_counts()
    table["source"] = _per_class(taught, classes, known=bool(len(source)))
    # Where nothing at all may be learnt from, a checkpoint's own head must answer; training sees whether there is one.
    untaught = table[["train", "source"]].isna().all(axis=None)
    table["teachers"] = pd.NA if untaught else table["train"].fillna(0) + table["source"].fillna(0)
    table["teachers"] = table["teachers"].astype("Int64")
    table["times_rarer"] = (table["train"].max() / table["train"].where(table["train"] > 0)).astype("Float64").round(2)
    return table


def _per_class(counts: pd.Series, classes: list[str], *, known: bool) -> pd.Series:
    values = [int(counts.get(label, 0)) if known else None for label in classes]
    return pd.Series(values, dtype="Int64")


# ── drift ──


def drift_table(now: DataProfile, last: DataProfile) -> pd.DataFrame:
    """Shares of each class among the target's labels, now and in the last run; no rows where either has none."""
    share, share_last = now.target.label_shares, last.target.label_shares
    names = sorted(share.keys() | share_last.keys(), key=natural_key) if share and share_last else []
    table = pd.DataFrame(
        {
            "class": pd.Series(names, dtype="str"),
            "share": pd.Series([share.get(name, 0.0) for name in names], dtype="float64"),
            "share_last": pd.Series([share_last.get(name, 0.0) for name in names], dtype="float64"),
        }
    )
    return table.assign(change=(table["share"] - table["share_last"]).abs().round(6))
