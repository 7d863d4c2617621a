"""Claim: fine-tuning on the CPU is as fast as the better of torchvision's reference loop and Lightning's.

The same network (random weights: speed does not care), batches of 32, every layer trained by AdamW, JPEG photos of
rsscn7 on disk, all cores. ``torchvision`` is its reference script: ``ImageFolder``, a ``DataLoader`` with a worker per
core, random crops and mirrors, the eager network. ``Lightning`` puts the same loader under its ``Trainer``; its row
says so where the package is missing (``uv pip install --group bench``). ``bare`` is the step alone, on one batch in
memory. Rates are of the epochs after the first, in which images are decoded and workers start; the first is apart.

``--write`` puts the table into the docs.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _bench import REALDATA, REPOSITORY, provenance, replace_section, table, temporary_workspace
from _shifts import Problem, class_folders, prepared, unpacked, write_table
from torch import nn
from torch.nn import functional

from pipeline.core import cores
from pipeline.core.device import computing

BACKBONES = ("resnet18", "mobilenet_v2")
BATCH, SIDE = 32, 224
CORES = cores.assigned()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Timed:
    """Seconds of each epoch, and the images of one."""

    seconds: list[float]
    images: int

    @property
    def first(self) -> float:
        return self.images / self.seconds[0]

    @property
    def later(self) -> float:
        return self.images / statistics.median(self.seconds[1:])


# -- the loops ---------------------------------------------------------------------------------------------------------


def ours(problem: Problem, epochs: int, **fields: Any) -> Timed:
    """The engine's own epochs, by ``lp_ft`` or, with ``frozen_blocks``, by ``partial``."""
    from pipeline.training.strategies import lp_ft, partial

    strategy = partial if "frozen_blocks" in fields else lp_ft
    shutil.rmtree(problem.context.scratch, ignore_errors=True)  # else it goes on from the last turn's checkpoint
    with computing("cpu", 0, CORES), _steps_of_epochs() as seconds:
        strategy.fit(problem.task, strategy.Params(epochs=epochs, patience=None, **fields), problem.context)
    return Timed(seconds, -(-len(problem.task.fit_images) // BATCH) * BATCH)  # every batch is whole


@contextmanager
def _steps_of_epochs() -> Iterator[list[float]]:
    """Seconds of each epoch's steps: without validation and checkpoints, which the other loops do not have."""
    from pipeline.training.engine import _Loop

    begin, end = _Loop._epoch, _Loop._finish_epoch
    started, seconds = [0.0], []

    def beginning(*args: Any) -> None:
        started[0] = time.perf_counter()
        begin(*args)

    def ending(*args: Any) -> None:
        seconds.append(time.perf_counter() - started[0])
        end(*args)

    _Loop._epoch, _Loop._finish_epoch = beginning, ending  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        _Loop._epoch, _Loop._finish_epoch = begin, end  # type: ignore[method-assign]


def loader(folder: Path) -> Any:
    """torchvision's way to read photos for training."""
    from torchvision import datasets, transforms

    steps = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip()]
    images = datasets.ImageFolder(
        str(folder), transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    )
    return torch.utils.data.DataLoader(
        images, BATCH, shuffle=True, num_workers=CORES, drop_last=True, persistent_workers=True
    )


def fresh(name: str, classes: int) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=classes)


def torchvision_loop(name: str, folder: Path, epochs: int) -> Timed:
    """The reference script without its logging."""
    batches = loader(folder)
    model = fresh(name, len(batches.dataset.classes)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        for images, labels in batches:
            _step(model, optimizer, images, labels)
        seconds.append(time.perf_counter() - started)
    return Timed(seconds, len(batches) * BATCH)


def lightning_loop(name: str, folder: Path, epochs: int) -> Timed | None:
    """Lightning's ``Trainer`` without logger and checkpoints; None where there is none."""
    try:
        import lightning
    except ImportError:
        return None
    batches = loader(folder)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.marks = fresh(name, len(batches.dataset.classes)), []

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-4)

        def on_train_epoch_start(self) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            self.marks.append(time.perf_counter() - self.started)

    module = Module()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, batches)
    return Timed(module.marks, len(batches) * BATCH)


def bare(name: str, steps: int = 12) -> float:
    """Images/s of the step on one batch in memory, in the faster order, with freed memory kept: as we compute."""
    model = fresh(name, 7).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.int64)
    with computing("cpu", 0, CORES):
        taken = [_seconds(lambda: _step(model, optimizer, images, labels)) for _ in range(steps)]
    return BATCH / statistics.median(taken[2:])


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    loss = functional.cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


# -- the table ---------------------------------------------------------------------------------------------------------


def compared(name: str, problem: Problem, photos: Path, epochs: int, turns: int) -> list[list[str]]:
    """Each way in turn; medians, and the range of what an epoch after the first took."""
    found: dict[str, list[Timed]] = {"Graftline": [], "torchvision": [], "Lightning": []}
    limits: list[float] = []
    for _ in range(turns):
        found["Graftline"].append(ours(problem, epochs))
        problem.task.fit_images.bank.forget()
        found["torchvision"].append(torchvision_loop(name, photos, epochs))
        if (timed := lightning_loop(name, photos, epochs)) is not None:
            found["Lightning"].append(timed)
        limits.append(bare(name))
    limit = statistics.median(limits)
    rows = []
    best = max(
        statistics.median(t.later for t in taken) for way, taken in found.items() if way != "Graftline" and taken
    )
    for way, taken in found.items():
        if not taken:
            rows.append([name, way, "not installed", "–", "–", "–", "–"])
            continue
        first, later = (statistics.median(getattr(t, which) for t in taken) for which in ("first", "later"))
        ratios = [f"{later / best:.2f}", f"{later / limit:.2f}"]
        rows.append([name, way, f"{first:.0f}", f"{later:.1f}", _range([t.later for t in taken]), *ratios])
    return [*rows, [name, "bare", "–", f"{limit:.1f}", _range(limits), f"{limit / best:.2f}", "1.00"]]


def _range(values: list[float]) -> str:
    return f"{min(values):.1f}–{max(values):.1f}"


def main() -> None:
    header = [
        "backbone",
        "loop",
        "first epoch, images/s",
        "later epochs",
        "range",
        "of the better peer",
        "of the bare step",
    ]
    tabulate(__doc__, "training", header, compared, "medians of {turns} turn(s)")


def tabulate(
    claim: str | None, section: str, header: list[str], rows_of: Callable[..., list[list[str]]], taken: str
) -> None:
    """The program: ``rows_of(name, problem, photos, epochs, turns)`` for each backbone, printed as a table and, with
    ``--write``, put into the docs' ``section``; ``taken`` says how often each figure was taken.
    """
    parser = argparse.ArgumentParser(description=claim, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if not REALDATA.is_dir():
        sys.exit(f"No data sets in {REALDATA}; set GRAFTLINE_REALDATA.")
    torch.set_num_threads(CORES)
    rows: list[list[str]] = []
    for name in BACKBONES:
        with temporary_workspace() as folder:
            problem, photos = _problem(folder, name, given.images)
            torch.set_num_threads(CORES)
            rows += rows_of(name, problem, photos, given.epochs, given.turns)
            print(*rows, sep="\n", flush=True)
    text = (
        f"{table(header, rows)}\n\n{CORES} threads, batches of {BATCH}, {given.images} images; "
        f"{taken.format(turns=given.turns)}; {provenance()}."
    )
    print(text)
    if given.write:
        replace_section(REPOSITORY / "docs" / "performance.md", section, text)


def _problem(folder: Path, name: str, count: int) -> tuple[Problem, Path]:
    """A workspace with ``count`` photos for training and some for validation, and the former as folders of classes."""
    root = unpacked("rsscn7", folder / "images")
    chosen = class_folders(root)
    chosen = chosen[:: max(1, len(chosen) // (count + 40))][: count + 40]
    photos = folder / "photos"
    rows = []
    for number, (path, label) in enumerate(chosen):
        split = "val" if number % max(2, len(chosen) // 40) == 0 else "train"
        rows.append((path.relative_to(root).as_posix(), label, split))
        if split == "train":
            (photos / label).mkdir(parents=True, exist_ok=True)
            (photos / label / path.name).symlink_to(path)
    given = [f"ingest.target={{name: table, path: {write_table(root, rows)}}}", "ingest.source=null"]
    given += ["validate.near_duplicates=null", "ingest.near_duplicates.max_distance=0", "validate.min_images=1"]
    given += [f"backbone={{name: {name}, weights: none}}", f"train.batch_size={BATCH}", "train.min_steps_per_epoch=1"]
    return prepared(folder, 0, given), photos


if __name__ == "__main__":
    main()
