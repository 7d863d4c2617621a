"""A table of millions of rows: read in bounded memory, and one short message where its images are not there.

Each command runs in a process of its own, which tells its peak memory; the same command on a table of a thousand rows
says what of it the libraries take.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from integration_tools import environment

from pipeline.release.pin import ensure_pins

PARAMS = """\
model: toys
ingest:
  target: {{name: table, path: data/list.{kind}}}
  source: null
"""

SMALL, MILLION = 1_000, 1_000_000

BYTES_A_ROW = 300
"""At most, beside what a thousand rows take; one part of the table as Python objects and the whole in columns."""

INGEST = """
import resource, sys
from pipeline.cli import main
sys.argv = ["graftline", "stage", "ingest"]
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""

READ = """
import resource, sys
from pathlib import Path
from pipeline.core.context import Context
from pipeline.data.sources import table
table._check_most_exist = lambda paths, root: None
records = table.records(table.Params(path="data/list.csv"), Context(Path.cwd(), seed=0))
names = sum(len(record.name) for record in records)
print("rows", records.total, "letters", names)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


class Ended(NamedTuple):
    """A process, how it ended, what it said and the most memory it had, bytes."""

    code: int
    said: str
    peak: int


def in_child(script: str, workspace: Path) -> Ended:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=workspace, capture_output=True, text=True, env=environment()
    )
    said, _, peak = done.stderr.rpartition("peak ")
    return Ended(done.returncode, done.stdout + said, int(peak) * 1024)


def workspace_of(folder: Path, rows: int, kind: str = "csv") -> Path:
    """A table of that many images, none of which is there."""
    (folder / "data").mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS.format(kind=kind))
    ensure_pins(folder)
    with (folder / "data/list.csv").open("w") as file:
        file.write("path,label,split,patient,scanner\n")
        for number in range(rows):
            split = "train" if number % 5 else "test"
            file.write(f"images/{number // 1000:05}/{number:09}.png,class{number % 10},{split},p{number // 7},s\n")
    if kind == "parquet":
        import pandas as pd

        pd.read_csv(folder / "data/list.csv").to_parquet(folder / "data/list.parquet")
        (folder / "data/list.csv").unlink()
    return folder


def sizes(few: int, many: int) -> pytest.MarkDecorator:
    longer = pytest.param(many, marks=[pytest.mark.faults, pytest.mark.timeout(1800)])
    return pytest.mark.parametrize("rows", [few, longer])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@sizes(200_000, 10 * MILLION)
def test_images_that_are_not_there_are_one_message(tmp_path, rows, kind, tally):
    """Exit code 2, three names and how many more; a bounded number of bytes a row; nothing is left behind."""
    few = in_child(INGEST, workspace_of(tmp_path / "few", SMALL, kind))
    with tally("rows", rows):
        many = in_child(INGEST, workspace_of(tmp_path / "many", rows, kind))
        assert (2, 2) == (few.code, many.code), many.said
        assert 1 == many.said.count("Expected ")
        assert f"none of the 1,000 that were looked for, of {rows:,} rows: images/" in many.said
        assert " and 997 more (the first would be " in many.said
        assert len(many.said) < 2000
        assert many.peak - few.peak < BYTES_A_ROW * rows
    assert {"params.yaml", "data", "state", ".graftline"} >= {path.name for path in (tmp_path / "many").iterdir()}
    tally.note(f"{rows:,} rows of {kind}: {(many.peak - few.peak) / rows:,.0f} bytes a row")


@sizes(100_000, 2 * MILLION)
def test_records_are_made_as_they_are_asked_for(tmp_path, rows, tally):
    """Going through all of them takes no more than reading the table does."""
    few = in_child(READ, workspace_of(tmp_path / "few", SMALL))
    with tally("rows", rows):
        many = in_child(READ, workspace_of(tmp_path / "many", rows))
        assert f"rows {rows} letters {rows * len('images/00000/000000000.png')}" in many.said
        assert many.peak - few.peak < BYTES_A_ROW * rows
    tally.note(f"{rows:,} rows gone through: {(many.peak - few.peak) / rows:,.0f} bytes a row")
