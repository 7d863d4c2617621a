"""Claim: on a GPU, fine-tuning runs near the rate of the bare network, and features come as fast as images decode.

resnet50 at 224 px (random weights: speed does not care), JPEG photos on disk. ``bare`` is the network alone on a batch
that lies on the GPU; ``loader`` is what torchvision's reference script does (ImageFolder, DataLoader with a worker per
core, automatic mixed precision, channels last). Utilisation is the share of samples in which a kernel ran.

Needs a CUDA device and exits with a sentence where there is none. ``--write`` puts the table into the docs.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from _bench import REPOSITORY, provenance, replace_section, table, temporary_workspace
from _shifts import Problem, prepared
from PIL import Image
from torch import nn
from torch.nn import functional

CLASSES = 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photos(folder: Path, count: int) -> Path:
    """Smooth colours with some grain, 500 × 375 px, about 60 kB each, in folders of classes."""
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_photo, folder), range(count), chunksize=64))
    return folder


def _photo(folder: Path, number: int) -> None:
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375), 3)
    grainy = np.clip(np.asarray(coarse) + random.normal(0, 8, (375, 500, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(folder / f"class{number % CLASSES}" / f"{number:05d}.jpg", quality=85)


class Utilisation:
    """Sampled while a block runs, in percent; None where the driver does not say."""

    def __init__(self) -> None:
        self.samples: list[int] = []

    @contextmanager
    def sampled(self) -> Iterator[Utilisation]:
        done = threading.Event()
        thread = threading.Thread(target=self._sample, args=(done,))
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def _sample(self, done: threading.Event) -> None:
        while not done.wait(0.1):
            try:
                self.samples.append(torch.cuda.utilization())
            except (ImportError, RuntimeError):
                return

    def __str__(self) -> str:
        return f"{np.mean(self.samples):.0f} %" if self.samples else "–"


def network(backbone: str) -> nn.Module:
    from torchvision import models

    return models.get_model(backbone, num_classes=CLASSES).cuda().to(memory_format=torch.channels_last)


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = functional.cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def rate_of(call: Callable[[], object], images: int, *, repeats: int, warm_ups: int = 3) -> float:
    """Images per second of ``call``, which takes ``images``."""
    for _ in range(warm_ups):
        call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return images * repeats / (time.perf_counter() - started)


def bare_training(backbone: str, batch_size: int, *, compiled: bool) -> float:
    model = network(backbone)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randn(batch_size, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.int64, device="cuda")
    run = torch.compile(model) if compiled else model
    return rate_of(partial(step_of, run, optimizer, images, labels), batch_size, repeats=20)


@torch.inference_mode()
def bare_features(backbone: str, batch_size: int, *, dtype: torch.dtype) -> float:
    model = network(backbone).eval()
    images = torch.randn(batch_size, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
        return rate_of(partial(model, images), batch_size, repeats=20)


def loader(folder: Path, batch_size: int, *, training: bool) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    from torchvision import datasets, transforms

    crop = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    whole = [transforms.Resize(256), transforms.CenterCrop(224)]
    steps = [*(crop if training else whole), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    images = datasets.ImageFolder(folder, transforms.Compose(steps))
    return torch.utils.data.DataLoader(
        images,
        batch_size,
        shuffle=training,
        num_workers=os.cpu_count() or 1,
        pin_memory=True,
        persistent_workers=True,
        drop_last=training,
    )


def loader_training(folder: Path, backbone: str, batch_size: int, epochs: int, use: Utilisation) -> float:
    """Images/s after the first epoch, in which the workers start."""
    model = network(backbone)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batches = loader(folder, batch_size, training=True)
    seen, started = 0, 0.0
    with use.sampled():
        for epoch in range(epochs + 1):
            if epoch == 1:
                torch.cuda.synchronize()
                started = time.perf_counter()
                use.samples.clear()
            for images, labels in batches:
                moved = images.cuda(non_blocking=True).contiguous(memory_format=torch.channels_last)
                step_of(model, optimizer, moved, labels.cuda(non_blocking=True))
                seen += len(images) if epoch else 0
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - started)


@torch.inference_mode()
def loader_features(folder: Path, backbone: str, batch_size: int, use: Utilisation) -> float:
    model = network(backbone).eval()
    batches = loader(folder, batch_size, training=False)
    started, seen = time.perf_counter(), 0
    with use.sampled():
        for images, _ in batches:
            model(images.cuda(non_blocking=True).contiguous(memory_format=torch.channels_last)).float().cpu()
            seen += len(images)
    return seen / (time.perf_counter() - started)


def our_training(problem: Problem, batch_size: int, epochs: int, use: Utilisation) -> float:
    """Images/s of the engine without the first epoch: the difference of a long and a short fit of `full`."""
    from pipeline.training.strategies import full

    def seconds(count: int) -> float:
        started = time.perf_counter()
        fitted = full.fit(problem.task, full.Params(epochs=count, patience=None), problem.context)
        if len(fitted.record.history) != count:
            raise RuntimeError(f"{len(fitted.record.history)} epochs ran instead of {count}.")
        return time.perf_counter() - started

    seconds(1)  # decodes, and warms the GPU up
    short = seconds(1)
    with use.sampled():
        long = seconds(1 + epochs)
    images = -(-len(problem.task.fit_images) // batch_size) * batch_size  # every batch is whole
    return epochs * images / (long - short)


def our_features(problem: Problem, use: Utilisation) -> float:
    """Images/s of the stage's own work, from files on disk to features in the cache, the cache emptied before."""
    import shutil

    from pipeline.core.device import choose
    from pipeline.features.extraction import extract
    from pipeline.features.options import ExtractionOptions

    manifest = problem.artefact("target_manifest")
    shutil.rmtree(problem.context.cache / "features", ignore_errors=True)
    started = time.perf_counter()
    with use.sampled():
        options = ExtractionOptions(batch_size=256)
        found = extract(problem.artefact("backbone"), [manifest], problem.context, choose("cuda"), options)
    return found.computed / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=3072)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("No CUDA device here, so there is nothing to measure.")
    with temporary_workspace() as folder:
        images = photos(folder / "photos", given.images)
        settings = [
            f"ingest.target={{name: image_folder, path: {images}}}",
            "ingest.source=null",
            "ingest.near_duplicates.max_distance=0",
            "validate.near_duplicates=null",
            "ingest.test_share=0.05",
            "ingest.val_share=0.05",
            f"backbone={{name: {given.backbone}, weights: none}}",
            f"train.batch_size={given.batch_size}",
        ]
        problem = prepared(folder, 0, settings)
        text = report(problem, images, given)
    print(text)
    if given.write:
        replace_section(REPOSITORY / "docs" / "performance.md", "gpu", text)


def report(problem: Problem, folder: Path, given: argparse.Namespace) -> str:
    backbone, batch_size = given.backbone, given.batch_size
    rows = []

    def add(what: str, name: str, rate: float, use: Utilisation | str = "–") -> None:
        rows.append([what, name, f"{rate:,.0f}", str(use)])
        print(" · ".join(rows[-1]), flush=True)

    add("training", "bare", bare_training(backbone, batch_size, compiled=False))
    add("training", "bare, torch.compile", bare_training(backbone, batch_size, compiled=True))
    use = Utilisation()
    add("training", "Graftline", our_training(problem, batch_size, given.epochs, use), use)
    use = Utilisation()
    add("training", "loader", loader_training(folder, backbone, batch_size, given.epochs, use), use)
    add("features", "bare, float32", bare_features(backbone, 256, dtype=torch.float32))
    add("features", "bare, bfloat16", bare_features(backbone, 256, dtype=torch.bfloat16))
    for turn in (1, 2):
        use = Utilisation()
        add("features", f"Graftline, turn {turn}", our_features(problem, use), use)
        use = Utilisation()
        add("features", f"loader, float32, turn {turn}", loader_features(folder, backbone, 256, use), use)
    header = ["work", "how", "images/s", "GPU in use"]
    batches = f"batches of {batch_size} in training and 256 for features"
    return f"{table(header, rows)}\n\n{torch.cuda.get_device_name()}, {batches}; {provenance()}."


if __name__ == "__main__":
    main()
