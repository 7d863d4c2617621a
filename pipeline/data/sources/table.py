"""Images listed in a CSV or Parquet table: one row per image, further columns become slices.

```
path,label,split,patient,scanner
a/1.png,benign,train,p1,north
a/2.png,,,p2,south              (no label, no split of its own)
```
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from pipeline.core.errors import DataError
from pipeline.core.params import PluginParams
from pipeline.data.sources._record import SPLIT_NAMES, Record, Records, in_params

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.core.context import Context

ROWS_AT_ONCE = 65_536
"""Of a table that are Python objects at a time; the table itself is kept in columns, about 100 bytes a row."""

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""That spreadsheets write in place of commas."""

LOOKED_FOR = 1_000
"""Images that are looked for before the first is read, evenly over the table."""

NAMED = 3
"""Missing ones that the message names."""

SUMMARY = "Images listed in a CSV or Parquet table, with label, split, group and any further columns as slices."


class Params(PluginParams):
    """The table, what its columns are called, and which rows to take."""

    name: str = "table"
    path: str = Field(description="The table (.csv or .parquet), relative to the workspace or absolute.")
    root: str | None = Field(None, description="The folder that image paths are relative to; null = the table's own.")
    path_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    group_column: str = "group"
    domain_column: str = "domain"
    domain: str | None = Field(None, description="Take only the rows with this value in the domain column.")

    @model_validator(mode="after")
    def _in_one_folder(self) -> Params:
        location(self)
        return self


def location(params: Params) -> str | None:
    """The one folder that holds the table and its images: a change to either is a change of the data.

    Raises:
        ValueError: they lie apart, or loose in the workspace, where every output would count as data.
    """
    base = os.path.normpath(Path(params.path).expanduser().parent)
    root = os.path.normpath(Path(params.root).expanduser()) if params.root else base
    outer = root if Path(base).is_relative_to(root) else base
    if not Path(root).is_relative_to(outer) or outer == ".":
        raise ValueError(f"put the table and its images below one folder of their own; now: {params.path} and {root}")
    return outer


def records(params: Params, context: Context) -> Records:
    """One record per row, in the table's order.

    Raises:
        DataError: no table, no path column, a path that leaves the root, an unknown split, no row, or more than half
            of the images missing.
    """
    file = context.workspace / Path(params.path).expanduser()
    root = context.workspace / Path(params.root).expanduser() if params.root else file.parent
    rows = _chosen(_read(file), params, file)
    _check_texts(rows, params, file)
    _check_splits(rows, params, file)
    _check_inside(rows[params.path_column], root, file)
    _check_most_exist(rows[params.path_column], root)
    return Records(_records(rows, root, params), total=len(rows))


def _read(file: Path) -> pd.DataFrame:
    """The table with every value a string and empty cells null: ``01`` and ``NA`` are labels like any other."""
    import pandas as pd

    if file.is_dir():
        raise _unusable(file, "a folder", "Name the table in it, or set the source's name to `image_folder`.")
    if not file.is_file():
        raise _unusable(file, "no such file", "Correct the path; it is relative to the workspace.")
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(file)
        with pd.read_csv(
            file, dtype="str", keep_default_na=False, na_values=[""], encoding="utf-8-sig", chunksize=ROWS_AT_ONCE
        ) as parts:
            return pd.concat(parts, ignore_index=True)
    except (ValueError, OSError) as error:  # pandas' parser errors, pyarrow's and Unicode's are ValueErrors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _unusable(
            file, f"an unreadable one ({reason})", "Save it as UTF-8 CSV with commas, or as Parquet."
        ) from error


def _unusable(file: Path, found: str, remedy: str) -> DataError:
    return DataError(expected=f"a table at {file}", found=found, where=in_params("path"), remedy=remedy)


def _chosen(rows: pd.DataFrame, params: Params, file: Path) -> pd.DataFrame:
    """Rows of the wanted domain, with a path each."""
    for key in ("path_column", *_set_by_user(params)):
        _check_column(rows, getattr(params, key), key, file)
    if params.domain is not None:
        _check_column(rows, params.domain_column, "domain_column", file)
        known = sorted(rows[params.domain_column].dropna().astype("str").unique())
        rows = rows[rows[params.domain_column].astype("str") == params.domain]
        if rows.empty:
            raise DataError(
                expected=f"rows with one of these in '{params.domain_column}': {', '.join(known[:20])}",
                found=f"domain: {params.domain}",
                where=in_params("domain"),
                remedy="Use a value that occurs, or leave `domain` out to take every row.",
            )
    if rows.empty:
        raise _unusable(file, "a table without rows", "Add one row per image.")
    missing = rows[params.path_column].isna()
    if missing.any():
        number = int(missing.to_numpy().argmax()) + 1
        raise _unusable(file, f"no path in its data row {number}", "Give every row a path, or take the row out.")
    return rows


def _set_by_user(params: Params) -> list[str]:
    """Columns that may be absent under their usual names, but not where the user gave the name."""
    return [key for key in ("label_column", "split_column", "group_column") if key in params.model_fields_set]


def _check_separator(rows: pd.DataFrame, file: Path) -> None:
    header = str(rows.columns[0]) if len(rows.columns) == 1 else ""
    for separator, name in OTHER_SEPARATORS.items():
        if separator in header:
            raise _unusable(file, f"one whose columns are separated by {name}", "Save it as CSV with commas.")


def _check_column(rows: pd.DataFrame, column: str, key: str, file: Path) -> None:
    if column not in rows.columns:
        _check_separator(rows, file)
        raise DataError(
            expected=f"a column '{column}' in {file}",
            found=f"the columns {', '.join(map(str, rows.columns[:20]))}",
            where=in_params(key),
            remedy=f"Rename the column, or set `{key}` to the name it has.",
        )


def _check_texts(rows: pd.DataFrame, params: Params, file: Path) -> None:
    """A Parquet table can hold lists, mappings and bytes, which are no labels."""
    for key in ("path_column", "label_column", "split_column", "group_column"):
        column = getattr(params, key)
        for value in rows[column] if column in rows.columns and rows[column].dtype == object else ():
            if not (value is None or isinstance(value, str | numbers.Number)):
                raise DataError(
                    expected=f"texts or numbers in column '{column}'",
                    found=f"{type(value).__name__} in {file}",
                    where=in_params(key),
                    remedy="Give each row one text or one number there.",
                )


def _check_splits(rows: pd.DataFrame, params: Params, file: Path) -> None:
    if params.split_column not in rows.columns:
        return
    for value in rows[params.split_column].dropna().unique():
        if str(value).strip().lower() not in SPLIT_NAMES:
            raise DataError(
                expected=f"one of {', '.join(SPLIT_NAMES)}, or nothing, in column '{params.split_column}'",
                found=f"'{value}' in {file}",
                where=in_params("split_column"),
                remedy="Rename the value, or set `split_column` to another column.",
            )


def _check_inside(paths: pd.Series, root: Path, file: Path) -> None:
    """Each path must lead below ``root`` by its spelling; links that the user put there are theirs.

    A relative path without ``..`` leads nowhere else, so only the others are looked at one by one.
    """
    texts = paths.astype("str")
    for path in texts[texts.str.contains("\0", regex=False)]:
        raise DataError(
            expected="paths without a zero byte",
            found=f"{path!r} in {file}",
            where=in_params("path_column"),
            remedy="Correct the path, or take the row out.",
        )
    doubtful = texts[texts.str.contains("..", regex=False) | texts.str.startswith(os.sep)]
    for path in doubtful if os.sep == "/" else texts:
        if not Path(_place(root, path)).is_relative_to(os.path.normpath(root)):
            raise DataError(
                expected=f"paths below {root}",
                found=f"'{path}' in {file}",
                where=in_params("root"),
                remedy="Set `root` to the folder that holds all images, or take the row out.",
            )


def _place(root: Path, path: Any) -> str:
    return os.path.normpath(os.path.join(root, str(path)))


def _check_most_exist(paths: pd.Series, root: Path) -> None:
    """A missing image is validate's to report; where most of those drawn by lot are missing, the root is wrong."""
    sample = paths
    if len(paths) > LOOKED_FOR:
        sample = paths.sample(LOOKED_FOR, random_state=0).sort_index()
    missing = [str(path) for path in sample if not os.path.isfile(_place(root, path))]
    if 2 * len(missing) > len(sample):
        some = (
            f"{len(sample):,}" if sample is paths else f"{len(sample):,} that were looked for, of {len(paths):,} rows"
        )
        share = "none of the" if len(missing) == len(sample) else f"{len(missing):,} missing of"
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise DataError(
            expected=f"the images of the table below {root}",
            found=f"{share} {some}: {', '.join(missing[:NAMED])}{more} (the first would be {_place(root, missing[0])})",
            where=in_params("root"),
            remedy="Set `root` to the folder that the table's paths are relative to, or put the images there.",
        )


def _records(rows: pd.DataFrame, root: Path, params: Params) -> Iterator[Record]:
    own = {params.path_column, params.label_column, params.split_column, params.group_column}
    base = os.path.normpath(root)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        for row in rows.iloc[start : start + ROWS_AT_ONCE].to_dict("records"):
            place = Path(_place(root, row[params.path_column]))
            split = _text(row.get(params.split_column))
            yield Record(
                content=place,
                name=place.relative_to(base).as_posix(),
                label=_text(row.get(params.label_column)),
                split=SPLIT_NAMES[split.lower()] if split else None,
                group=_text(row.get(params.group_column)),
                extras={str(column): value for column, value in row.items() if column not in own},
            )


def _text(value: Any) -> str | None:
    """A cell as a string; null for an empty one; whole numbers without the ``.0`` that a null elsewhere gave them."""
    if value is None or value != value:  # NaN is the only value that differs from itself
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None
