"""Does any step grow faster than the data? Seconds should rise with an exponent of at most 1.1 in the number of rows.

Each cell is a process of its own that makes synthetic rows and then times one step; its memory is the most that the
process held in the step, less what it held before (Linux). Rows, hashes, features and answers are drawn at random: a
million images would not fit on the machine, and the steps below never see one. The exponent is the slope of log seconds
over log rows from 10,000 on; beside it stands that of the last decade alone.

``--write`` puts the table and the plot into the docs. ``bench_growth.py STEP ROWS`` is one cell.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _bench import REPOSITORY, PeakMemory, provenance, replace_section, table

ROWS = (1_000, 10_000, 100_000, 1_000_000)
FITTED_FROM = 10_000
DIM, CLASSES = 512, 10
PLOT = REPOSITORY / "docs" / "growth.png"

Step = Callable[[Path, Any], object]


def _images(rows: int) -> pd.DataFrame:
    """A manifest's rows; one image in fifty has a near-duplicate."""
    from pipeline.data.manifest import Manifest

    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, rows, dtype=np.uint64)
    copies = random.permutation(rows)[: rows // 50]
    hashes[copies] = hashes[np.roll(copies, 1)] ^ np.uint64(1 << 17)
    frame = pd.DataFrame(
        {
            "id": [f"{number:064x}" for number in range(rows)],
            "path": [f"data/{number:07d}.jpg" for number in range(rows)],
            "name": [f"{number:07d}.jpg" for number in range(rows)],
            "label": [f"class{number % CLASSES}" for number in range(rows)],
            "domain": "target",
            "width": 400,
            "height": 300,
            "bytes": 50_000,
            "mode": "RGB",
            "format": "JPEG",
            "phash": [f"{value:016x}" for value in hashes],
        }
    )
    return Manifest.of(frame).frame


def _near_duplicates(folder: Path, images: pd.DataFrame) -> object:
    from pipeline.data.near_duplicates import components

    return components(images, max_distance=2, min_side_px=48)


def _splits(folder: Path, images: pd.DataFrame) -> object:
    from pipeline.data import splits

    return splits.assign(images, np.arange(len(images)), val_share=0.2, test_share=0.2, seed=0)


def _manifest(folder: Path, images: pd.DataFrame) -> object:
    from pipeline.data.manifest import Manifest

    Manifest(images).save(folder / "manifest.parquet")
    return Manifest.load(folder / "manifest.parquet")


def _features(rows: int) -> tuple[list[str], np.ndarray]:
    return [f"{number:064x}" for number in range(rows)], np.zeros((1024, DIM), np.float32)


def _store(folder: Path, given: tuple[list[str], np.ndarray]) -> object:
    """Written in the stage's segments."""
    from pipeline.features.cache import FeatureCache

    ids, block = given
    cache = FeatureCache(folder)
    for start in range(0, len(ids), len(block)):
        part = ids[start : start + len(block)]
        cache.add(part, block[: len(part)])
    return cache


def _stored(rows: int) -> tuple[list[str], tempfile.TemporaryDirectory[str]]:
    """Written by another process, whose memory is not counted."""
    kept, given = tempfile.TemporaryDirectory(), _features(rows)
    writer = multiprocessing.get_context("fork").Process(target=_store, args=(Path(kept.name), given))
    writer.start()
    writer.join()
    assert writer.exitcode == 0, "the features could not be written"
    return given[0], kept


def _ask(folder: Path, given: tuple[list[str], tempfile.TemporaryDirectory[str]]) -> object:
    """What each run does first: which images are there? Every segment is compared with its digest."""
    from pipeline.features.cache import FeatureCache

    cache = FeatureCache(Path(given[1].name))
    return sum(image_id in cache for image_id in given[0])


def _table(folder: Path, given: tuple[list[str], tempfile.TemporaryDirectory[str]]) -> None:
    """What the features stage does once all are there: opened, and a table written of them. A hundredth came later, and
    lies anywhere among the others in the table."""
    from pipeline.features.cache import FeatureCache, Gathered
    from pipeline.features.table import FeatureTable, TableFacts

    place, later = np.arange(len(given[0]), dtype=np.float64), len(given[0]) // 100
    place[-later:] = np.random.default_rng(0).uniform(0, len(place), later)
    ids = [given[0][row] for row in place.argsort().tolist()]
    facts = TableFacts(
        backbone="", backbone_digest="", preprocessing_digest="", dtype="float32", count=len(ids), feature_dim=DIM
    )
    FeatureTable(facts, ids, Gathered(FeatureCache(Path(given[1].name)), ids, DIM, "float32")).save(folder / "table")


def _answers(rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, CLASSES, rows), random.dirichlet(np.ones(CLASSES), rows).astype(np.float32)


def _metrics(folder: Path, given: tuple[np.ndarray, np.ndarray]) -> object:
    from pipeline.evaluation import scoring

    answers = scoring.Answers(*given)
    scoring.per_class(answers, [f"class{number}" for number in range(CLASSES)])
    return scoring.overall(answers, resamples=2000, seed=0), scoring.calibration(answers)


STEPS: dict[str, tuple[Callable[[int], Any], Step]] = {
    "near-duplicates": (_images, _near_duplicates),
    "splits": (_images, _splits),
    "manifest written and read": (_images, _manifest),
    f"features stored, {DIM} each": (_features, _store),
    "features' store asked for each": (_stored, _ask),
    "features opened, table written": (_stored, _table),
    "metrics with intervals": (_answers, _metrics),
}


def _cell(step: str, rows: int) -> None:
    """Run one cell, and print its seconds and by how much its peak memory exceeds what it held before."""
    make, run = STEPS[step]
    given = make(rows)
    memory = PeakMemory()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run(Path(folder), given)
        seconds = time.perf_counter() - started
    print(json.dumps({"step": step, "rows": rows, "seconds": seconds, "mb": memory.mb}))


def _measured(step: str, rows: int) -> dict[str, Any]:
    command = [sys.executable, __file__, step, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{step} · {rows:,} rows · {found['seconds']:.2f} s · +{found['mb']:.0f} MB", flush=True)
    return found


def exponent(cells: list[dict[str, Any]], since: int) -> float:
    """Slope of log seconds over log rows."""
    fitted = [cell for cell in cells if cell["rows"] >= since]
    return float(
        np.polyfit([math.log(cell["rows"]) for cell in fitted], [math.log(cell["seconds"]) for cell in fitted], 1)[0]
    )


def draw(found: dict[str, list[dict[str, Any]]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for step, cells in found.items():
        axes.loglog([cell["rows"] for cell in cells], [cell["seconds"] for cell in cells], marker="o", label=step)
    axes.set_xlabel("rows")
    axes.set_ylabel("seconds")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=STEPS)
    parser.add_argument("rows", nargs="?", type=int)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.step:
        _cell(given.step, given.rows)
        return
    found = {step: [_measured(step, rows) for rows in ROWS] for step in STEPS}
    body = [
        [
            step,
            *(f"{cell['seconds']:.2f} s, {cell['mb']:.0f} MB" for cell in cells),
            f"{exponent(cells, FITTED_FROM):.2f}",
            f"{exponent(cells, ROWS[-2]):.2f}",
        ]
        for step, cells in found.items()
    ]
    header = ["step", *(f"{rows:,} rows" for rows in ROWS), "exponent", "of the last decade"]
    text = f"{table(header, body)}\n\nOne run per cell; MB is the growth of peak memory in the step; {provenance()}."
    print(text)
    if given.write:
        draw(found)
        replace_section(REPOSITORY / "docs" / "performance.md", "growth", text)


if __name__ == "__main__":
    main()
