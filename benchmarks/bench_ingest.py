"""Claim: ingest decodes at the rate of the decoder on all cores, and does not read an unchanged file again.

Real JPEG and PNG where the folder of real data is there. ``decoder`` decodes the same bytes from memory in a loop, one
thread, nothing else; the goal for a first ingest is that rate times the cores. Then tiny files: the time of a second
ingest, of one after 1 % of the files were added, and of asking the file system for each file's state.
``--write`` puts the tables into the docs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _bench import REALDATA, REPOSITORY, provenance, replace_section, table, temporary_workspace
from PIL import Image

from pipeline import params
from pipeline.data.images import decode
from pipeline.data.inspection import inspect
from pipeline.graph import executor

SETS = {"rsscn7": "JPEG, 224 px", "malaria": "PNG, about 140 px", "cifar10": "JPEG, 32 px"}
MANY, CROPS = "rsscn7", 14
"""Of this set so many crops of each image, a pixel apart, are a set large enough for processes to matter."""
TURNS = 3


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ingest(folder: Path) -> float:
    return seconds(lambda: executor.execute(folder, "ingest"))


def forget(folder: Path) -> None:
    for file in (folder / ".graftline" / "cache").glob("inspections-*"):
        file.unlink()


def of(folder: Path, images: Path) -> None:
    source = f"ingest.target={{name: image_folder, path: {images}}}"
    params.assign(folder, [source, "ingest.source=null"])


def first_looks() -> list[list[str]]:
    """Of each set, and of many crops of one."""
    rows = []
    for archive, kind in SETS.items() if REALDATA.is_dir() else ():
        with temporary_workspace() as folder:
            with tarfile.open(REALDATA / f"{archive}.tar") as tar:
                tar.extractall(folder / "images", filter="data")
            inside = [entry for entry in (folder / "images").iterdir() if entry.is_dir()]
            images = inside[0] if len(inside) == 1 else folder / "images"
            rows.append(first_look(folder, images, archive, kind))
            if archive == MANY:
                rows.append(
                    first_look(folder, crops(images, folder / "crops"), f"{archive}, {CROPS} crops", "JPEG, 200 px")
                )
    return rows


def crops(images: Path, place: Path) -> Path:
    for path in sorted(images.glob("*/*.*")):
        with Image.open(path) as image:
            for offset in range(CROPS):
                file = place / path.parent.name / f"{path.stem}-{offset}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                image.convert("RGB").crop((offset, offset, offset + 200, offset + 200)).save(file, quality=90)
    return place


def first_look(folder: Path, images: Path, name: str, kind: str) -> list[str]:
    """Images/s of the decoder, of one whole look, and of ingest, in turn."""
    of(folder, images)
    files = [path for path in sorted(images.glob("**/*.*")) if path.is_file()]
    contents = [path.read_bytes() for path in files[:: max(1, len(files) // 1000)]]
    good = [content for content in contents if inspect(content).error is None]
    rates: dict[str, list[float]] = {"decoder": [], "look": [], "ingest": []}
    for _ in range(TURNS):
        rates["decoder"].append(len(good) / seconds(lambda: [decode(content) for content in good]))
        rates["look"].append(len(good) / seconds(lambda: [inspect(content) for content in good]))
        forget(folder)
        rates["ingest"].append(len(files) / ingest(folder))
    decoder, look, whole = (statistics.median(rates[name]) for name in ("decoder", "look", "ingest"))
    goal = decoder * (os.cpu_count() or 1)
    row = [name, kind, f"{len(files):,}", *(f"{rate:,.0f}" for rate in (decoder, look, whole)), f"{whole / goal:.2f}"]
    print(" | ".join(row), flush=True)
    return row


def later_looks(count: int) -> list[list[str]]:
    """Seconds of ingest over ``count`` tiny files: all new, none new, 1 % new."""
    random = np.random.default_rng(0)
    with temporary_workspace() as folder:
        images = folder / "tiny"

        def add(first: int, last: int) -> None:
            for number in range(first, last):
                path = images / f"class{number % 10}" / f"{number:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)

        add(0, count)
        of(folder, images)
        time.sleep(3)  # until the files' times are settled
        rows = [["all new", f"{ingest(folder):.1f}"]]
        unchanged = statistics.median(ingest(folder) for _ in range(TURNS))
        rows.append(["none new", f"{unchanged:.1f}"])
        add(count, count + count // 100)
        rows.append(["1 % new", f"{ingest(folder):.1f}"])
        files = [str(path) for path in images.rglob("*.png")]
        rows.append(["`stat` of each file alone", f"{seconds(lambda: [os.stat(file) for file in files]):.1f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    header = ["set", "kind", "images", "decoder alone, images/s", "one look", "ingest", "of decoder × cores"]
    first = table(header, first_looks())
    later = table([f"ingest of {given.files:,} files", "seconds"], later_looks(given.files))
    text = f"{first}\n\n{later}\n\nMedians of {TURNS} turns; {provenance()}."
    print(text)
    if given.write:
        replace_section(REPOSITORY / "docs" / "performance.md", "ingest", text)


if __name__ == "__main__":
    main()
