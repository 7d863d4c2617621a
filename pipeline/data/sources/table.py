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
        DataError: no table, no path column, a path that leaves the root, an unknown split, or no row.
    """
    file = context.workspace / Path(params.path).expanduser()
    root = context.workspace / Path(params.root).expanduser() if params.root else file.parent
    rows = _chosen(_read(file), params, file)
    _check_texts(rows, params, file)
    _check_splits(rows, params, file)
    paths = [_inside(root, str(path), file) for path in rows[params.path_column]]
    _check_some_exist(paths, root)
    return Records(_records(rows, paths, root, params), total=len(rows))


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
        return pd.read_csv(file, dtype="str", keep_default_na=False, na_values=[""], encoding="utf-8-sig")
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


def _check_column(rows: pd.DataFrame, column: str, key: str, file: Path) -> None:
    if column not in rows.columns:
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


def _inside(root: Path, path: str, file: Path) -> Path:
    """The image's place, which must lie below ``root`` by its spelling; links that the user put there are theirs."""
    if "\0" in path:
        raise DataError(
            expected="paths without a zero byte",
            found=f"{path!r} in {file}",
            where=in_params("path_column"),
            remedy="Correct the path, or take the row out.",
        )
    place = os.path.normpath(root / path)
    if not Path(place).is_relative_to(os.path.normpath(root)):
        raise DataError(
            expected=f"paths below {root}",
            found=f"'{path}' in {file}",
            where=in_params("root"),
            remedy="Set `root` to the folder that holds all images, or take the row out.",
        )
    return Path(place)


def _check_some_exist(paths: list[Path], root: Path) -> None:
    """A single missing image is validate's to report; when none is there the root is wrong."""
    if not any(path.is_file() for path in paths):
        raise DataError(
            expected=f"the images of the table below {root}",
            found=f"none of the {len(paths):,} (the first would be {paths[0]})",
            where=in_params("root"),
            remedy="Set `root` to the folder that the table's paths are relative to.",
        )


def _records(rows: pd.DataFrame, paths: list[Path], root: Path, params: Params) -> Iterator[Record]:
    own = {params.path_column, params.label_column, params.split_column, params.group_column}
    for path, row in zip(paths, rows.to_dict("records"), strict=True):
        split = _text(row.get(params.split_column))
        yield Record(
            content=path,
            name=path.relative_to(os.path.normpath(root)).as_posix(),
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
