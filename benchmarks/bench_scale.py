"""What does a second worker bring? What starting them costs is told beside it.

Extraction: photos drawn at random, as JPEG files, through resnet18: in this process with all cores (as many threads of
torch, and as many that decode), which is what a user has without Ray and what the others are compared with; in this
process with one thread of each, and on Ray with 1 and 2 workers of one thread of each. Ray's start is timed by itself;
rates are without it.
Training: full fine-tuning of resnet18 at one batch size: one process with all threads, which the others are compared
with; then one process with one thread, and two that divide all threads. Seconds of an epoch are the difference of two
runs that differ in their epochs, so that starting up and decoding are not in them.

Each turn takes all of them once, in turn. ``--write`` puts the tables into the docs; ``--photos``, ``--epochs`` and
``--turns`` make it smaller. Ray's rows need ``graftline[ray]`` and are left out without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _bench import REPOSITORY, provenance, replace_section, table
from PIL import Image

from pipeline.core import cores, digests
from pipeline.core.allocation import freed_memory_kept
from pipeline.core.context import Context
from pipeline.data.images import ImageStore
from pipeline.data.loading import ImageBank
from pipeline.data.manifest import Manifest
from pipeline.features.extraction import extract
from pipeline.features.options import ExtractionOptions
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import random_weights
from pipeline.models.network import Network
from pipeline.scale.options import Scale
from pipeline.training.engine import fit
from pipeline.training.objectives import Images
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase

NAME, CLASSES, SIZE = "resnet18", 10, (400, 300)
BATCH = 32
CORES = cores.assigned()
CPU = torch.device("cpu")


def drawn_photos(folder: Path, count: int) -> Manifest:
    """Smooth random pictures: what a JPEG decoder has to do for them is near what it does for photos."""
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        coarse = random.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        path = folder / f"{number:05d}.jpg"
        path.write_bytes(buffer.getvalue())
        rows.append(
            {"id": digests.of_bytes(buffer.getvalue()), "path": path.name, "name": path.name, "split": "train",
             "label": str(number % CLASSES), "domain": "target"}
        )  # fmt: skip
    return Manifest.of(pd.DataFrame(rows))


def cluster(workers: int) -> AbstractContextManager[Any]:
    """Started before the clock, so that it stands in a column of its own."""
    import ray

    return ray.init(
        address="local", num_cpus=workers, object_store_memory=2**28, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip


def extraction_seconds(folder: Path, manifest: Manifest, scale: Scale, threads: int) -> tuple[float, float]:
    """Of the start, and of the work (actors that load the backbone included); ``threads`` in each process."""
    torch.set_num_threads(threads)
    weights = random_weights(NAME, 0, backbone(NAME).preprocessing)
    started = time.perf_counter()
    ready_cluster = cluster(scale.workers) if scale.engine == "ray" else nullcontext()
    with freed_memory_kept(), ready_cluster, tempfile.TemporaryDirectory() as cache:
        ready = time.perf_counter()
        context = Context(folder, 0, device="cpu", workers=threads, cache=Path(cache), scale=scale)
        extract(weights, [manifest], context, CPU, ExtractionOptions(batch_size=BATCH, engine="torch"))
        return ready - started, time.perf_counter() - ready


def training_seconds(folder: Path, manifest: Manifest, workers: int, threads: int, epochs: int) -> tuple[float, float]:
    """Of one epoch, and of everything else; the processes divide ``threads``."""
    torch.set_num_threads(threads)
    taken = {}
    for count in (1, 1 + epochs):
        weights = random_weights(NAME, 0, backbone(NAME).preprocessing)
        network = Network(NAME, weights.build(), CLASSES)
        bank = ImageBank(manifest, ImageStore(folder, 1), weights.preprocessing)
        images = Images(bank, manifest.frame["label"].astype(int).to_numpy())
        phase = Phase("all", count, dict.fromkeys(network.groups, 1e-4), batch_norm="train", keep="last")
        started = time.perf_counter()
        context = Context(folder, 0, device="cpu", scale=Scale(workers=workers))
        with freed_memory_kept():
            fit(network, [phase], images, None, EngineOptions(batch_size=BATCH, min_steps_per_epoch=1), context)
        taken[count] = time.perf_counter() - started
    epoch = (taken[1 + epochs] - taken[1]) / epochs
    return epoch, taken[1] - epoch


def in_turn(turns: int, measured: dict[str, Callable[[], tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Medians of both figures."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
    for _ in range(turns):
        for name, measure in measured.items():
            found[name].append(measure())
    return {
        name: (statistics.median(first for first, _ in pairs), statistics.median(second for _, second in pairs))
        for name, pairs in found.items()
    }


def tables(folder: Path, photos: int, epochs: int, turns: int) -> str:
    manifest = drawn_photos(folder, photos)
    whole = f"this process, all cores ({CORES})"
    ways: dict[str, tuple[Scale, int]] = {whole: (Scale(), CORES), "this process, one thread": (Scale(), 1)}
    if importlib.util.find_spec("ray") is not None:
        ways |= {
            f"Ray, {count} worker{'s' * (count > 1)}, a thread each": (Scale(engine="ray", workers=count), 1)
            for count in (1, 2)
        }
    extracted = in_turn(
        turns, {name: partial(extraction_seconds, folder, manifest, *chosen) for name, chosen in ways.items()}
    )
    rows = [
        [name, f"{start:.1f}", f"{photos / seconds:.0f}", f"{extracted[whole][1] / seconds:.2f}"]
        for name, (start, seconds) in extracted.items()
    ]
    features = table(["extraction", "start, s", "images/s", "× all cores"], rows)
    one = f"1 process, all threads ({CORES})"
    shares = {one: (1, CORES), "1 process, one thread": (1, 1), "2 processes that divide them": (2, CORES)}
    trained = in_turn(
        turns, {name: partial(training_seconds, folder, manifest, *share, epochs) for name, share in shares.items()}
    )
    rows = [
        [name, f"{rest:.1f}", f"{photos / epoch:.0f}", f"{trained[one][0] / epoch:.2f}"]
        for name, (epoch, rest) in trained.items()
    ]
    training = table(["training", "start and decoding, s", "images/s", "× all threads"], rows)
    note = f"{NAME}, {photos} photos of {SIZE[0]} × {SIZE[1]} px, batch {BATCH}, medians of {turns} turns"
    return f"{features}\n\n{training}\n\n{note}; {provenance()}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        text = tables(Path(folder), chosen.photos, chosen.epochs, chosen.turns)
    print(text)
    if chosen.write:
        replace_section(REPOSITORY / "docs" / "scale.md", "scale", text)


if __name__ == "__main__":
    main()
