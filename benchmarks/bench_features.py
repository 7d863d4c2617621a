"""Claim: features come at the rate of the fastest engine that gives the same features, from files on disk.

Bare: one batch of 32 images of 224 px, again and again, through each engine in turn, on all cores, in a process that
keeps freed memory as the stage does (``pipeline.core.allocation``; it is torch's rows that gain by it). An engine whose
features are further than 1e-3 from eager torch's is measured and not offered. ``torch.compile`` needs a C++ compiler,
OpenVINO its package (``uv pip install --group bench``); without one its row says so.
From disk: photos of office_caltech10, by the stage's own extraction with each engine (ONNX Runtime's graph was exported
before, as in every run but the first), and by the loop of torchvision's documentation: ``ImageFolder``, a
``DataLoader`` with a worker per core, the eager network; once more with channels last and freed memory kept.

``--write`` puts the tables into the docs.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _bench import REALDATA, REPOSITORY, provenance, replace_section, run_stages, table, temporary_workspace
from _shifts import class_folders, unpacked, write_table

from pipeline.catalog import CATALOG
from pipeline.core import cores
from pipeline.core.allocation import freed_memory_kept, share_one_heap
from pipeline.core.context import Context
from pipeline.core.device import computing
from pipeline.evaluation.timing import take_turns
from pipeline.features.engines import ONNX_IMAGES, TOLERANCE, OnnxEngine, TorchEngine
from pipeline.features.extraction import extract
from pipeline.features.options import ExtractionOptions
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights
from pipeline.models.cost import multiply_adds
from pipeline.models.onnx_graph import onnx_graph

BACKBONES = ("resnet18", "resnet50", "mobilenet_v2")
SIDE, BATCH = 224, 32
PHOTOS = 960
CORES = cores.assigned()
CPU = torch.device("cpu")

Run = Callable[[torch.Tensor], np.ndarray]


# -- bare engines ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def engines(weights: BackboneWeights, images: torch.Tensor) -> dict[str, Run | str]:
    """Each engine, ready; or why there is none."""
    plain = weights.build()
    last = weights.build().to(memory_format=torch.channels_last)
    found: dict[str, Run | str] = {
        "torch eager, NCHW": lambda batch: plain(batch).numpy(),
        "torch eager, channels last": TorchEngine(weights.build(), CPU),
        "torch eager, bfloat16": lambda batch: _bfloat16(last, batch),
        "torch.compile": _compiled(weights, images),
        f"ONNX Runtime, {ONNX_IMAGES} at a time": OnnxEngine.of(weights, None, threads=CORES),
        "OpenVINO": _openvino(weights),
    }
    return found


@torch.inference_mode()
def _bfloat16(network: torch.nn.Module, batch: torch.Tensor) -> np.ndarray:
    with torch.autocast("cpu", torch.bfloat16):
        return network(batch.to(memory_format=torch.channels_last)).float().numpy()


def _compiled(weights: BackboneWeights, images: torch.Tensor) -> Run | str:
    network = torch.compile(weights.build().to(memory_format=torch.channels_last))

    @torch.inference_mode()
    def run(batch: torch.Tensor) -> np.ndarray:
        return network(batch.to(memory_format=torch.channels_last)).numpy()

    try:
        run(images)
    except Exception as error:  # noqa: BLE001  # a missing compiler shows in many forms; the row tells which
        return f"{type(error).__name__}"
    return run


def _openvino(weights: BackboneWeights) -> Run | str:
    try:
        import openvino
    except ImportError:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "backbone.onnx"
        file.write_bytes(onnx_graph(weights.build(), SIDE, takes="pixels", gives="features").SerializeToString())
        settings = {"INFERENCE_NUM_THREADS": CORES, "INFERENCE_PRECISION_HINT": "f32"}
        model = openvino.Core().compile_model(file, "CPU", settings)
    return lambda batch: model(batch.numpy())[0]


def bare(name: str, peak: float) -> tuple[list[list[str]], float]:
    """Rows of the table, and images per second of the best engine that gives the same features."""
    weights = random_weights(name, 0, backbone(name).preprocessing)
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = engines(weights, images)
    runs = {how: run for how, run in found.items() if not isinstance(run, str)}
    with torch.inference_mode():
        expected = runs["torch eager, NCHW"](images)
        errors = {
            how: float(np.linalg.norm(run(images) - expected) / np.linalg.norm(expected)) for how, run in runs.items()
        }
        times = take_turns({how: lambda run=run: run(images) for how, run in runs.items()}, runs=12, budget_s=60)
    rates = {how: 1000 * BATCH / float(np.median(taken)) for how, taken in times.items()}
    flops = 2 * multiply_adds(name, SIDE)
    rows = []
    for how, run in found.items():
        if isinstance(run, str):
            rows.append([name, how, "–", "–", "–", run])
            continue
        gflops = rates[how] * flops / 1e9
        rows.append(
            [name, how, f"{rates[how]:.0f}", f"{gflops:.0f}", f"{gflops / peak:.0%}", f"{errors[how]:.0e}"],
        )
    return rows, max(rates[how] for how in runs if errors[how] <= TOLERANCE)


def matmul_peak() -> float:
    """GFLOP/s of float32 matrices of 2048 × 2048 on all cores, the best of ten."""
    side = 2048
    one, other = torch.randn(side, side), torch.randn(side, side)
    best = np.inf
    for _ in range(10):
        started = time.perf_counter()
        one @ other
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


# -- from files on disk ------------------------------------------------------------------------------------------------


def from_disk(name: str, folder: Path, photos: Path) -> dict[str, float]:
    """Images per second of each way, medians of two turns; what is kept for good, ONNX Runtime's graph, is there."""
    weights = random_weights(name, 0, backbone(name).preprocessing)
    manifest = CATALOG["target_manifest"].load(folder)
    OnnxEngine.of(weights, folder / "cache" / "engines")

    def ours(engine: str) -> int:
        shutil.rmtree(folder / "cache" / "features", ignore_errors=True)
        context = Context(folder, 0, workers=CORES, cache=folder / "cache")
        with computing("cpu", 0, CORES) as device:
            return extract(weights, [manifest], context, device, ExtractionOptions(engine=engine)).computed

    ways: dict[str, Callable[[], int]] = {
        "Graftline, torch": lambda: ours("torch"),
        "Graftline, ONNX Runtime": lambda: ours("onnxruntime"),
        PLAIN: lambda: loader(name, photos),
        f"{PLAIN}, channels last, memory kept": lambda: kept(name, photos),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(2):
        for way, run in ways.items():
            started = time.perf_counter()
            images = run()
            rates[way].append(images / (time.perf_counter() - started))
    return {way: statistics.median(found) for way, found in rates.items()}


PLAIN = "ImageFolder, DataLoader, eager"


def kept(name: str, photos: Path) -> int:
    """torchvision's way with two things that ours has too, to tell what is left for the rest."""
    with freed_memory_kept():
        return loader(name, photos, torch.channels_last)


@torch.inference_mode()
def loader(name: str, photos: Path, memory_format: torch.memory_format = torch.contiguous_format) -> int:
    """torchvision's way."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, models, transforms

    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = [transforms.Resize(256), transforms.CenterCrop(SIDE), transforms.ToTensor(), normalise]
    images = datasets.ImageFolder(str(photos), transforms.Compose(steps))
    network = models.get_model(name, weights=None).eval().to(memory_format=memory_format)
    computed = 0
    for batch, _ in DataLoader(images, batch_size=64, num_workers=CORES):
        computed += len(network(batch.contiguous(memory_format=memory_format)))
    return computed


def with_photos(best: dict[str, float]) -> list[list[str]]:
    with temporary_workspace() as folder:
        root = unpacked("office_caltech10", folder / "images")
        chosen = class_folders(root, lambda path: "amazon" in path.parts)[:PHOTOS]
        photos = folder / "photos"
        for path, label in chosen:
            (photos / label).mkdir(parents=True, exist_ok=True)
            (photos / label / path.name).symlink_to(path)
        rows = [(path.relative_to(root).as_posix(), label, "train") for path, label in chosen]
        given = [f"ingest.target={{name: table, path: {write_table(root, rows)}}}", "ingest.source=null"]
        given += ["validate.near_duplicates=null", "validate.min_labelled_per_class=0", "validate.max_copy_share=1"]
        run_stages(folder, [*given, "ingest.near_duplicates.max_distance=0"], until="validate")
        found = []
        for name in BACKBONES:
            rates = from_disk(name, folder, photos)
            plain = rates[PLAIN]
            found += [
                [name, way, f"{rate:.0f}", f"{rate / plain:.2f}", f"{rate / best[name]:.2f}"]
                for way, rate in rates.items()
            ]
        return found


def main() -> None:
    share_one_heap()  # as each stage's process does, before there are threads
    if not REALDATA.is_dir():
        sys.exit(f"No data sets in {REALDATA}; set GRAFTLINE_REALDATA.")
    torch.set_num_threads(CORES)
    peak = matmul_peak()
    best: dict[str, float] = {}
    rows: list[list[str]] = []
    for name in BACKBONES:
        with computing("cpu", 0, CORES):
            found, best[name] = bare(name, peak)
        rows += found
    header = ["backbone", "engine", f"images/s, batch {BATCH}", "GFLOP/s", "of torch's matmul", "relative error"]
    disk = ["backbone", "from files on disk", "images/s", "× the loader", "of the best engine bare"]
    text = (
        f"{table(header, rows)}\n\n{table(disk, with_photos(best))}\n\n"
        f"torch's float32 matrix product: {peak:.0f} GFLOP/s. {CORES} threads, taken in turn, medians; "
        f"{provenance()}."
    )
    print(text)
    if "--write" in sys.argv:
        replace_section(REPOSITORY / "docs" / "performance.md", "features", text)


if __name__ == "__main__":
    main()
