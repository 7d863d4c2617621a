"""Problems for transfer: two domains on disk, prepared by the product's own stages, and the score on test images."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _bench import REALDATA, run_stages
from PIL import Image

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core.context import Context
from pipeline.core.device import choose
from pipeline.data.manifest import Manifest
from pipeline.models.network import Network
from pipeline.training.choice import answering
from pipeline.training.objectives import Images
from pipeline.training.task import Task, make_task

Row = tuple[str, str, str]
"""Path, label (empty: none), split."""


@dataclass
class Problem:
    """A workspace whose features are there, and what a strategy may see of it."""

    workspace: Path
    seed: int

    @cached_property
    def context(self) -> Context:
        folder = self.workspace / ".graftline"
        return Context(self.workspace, self.seed, scratch=folder / "bench", cache=folder / "cache", workers=1)

    @cached_property
    def task(self) -> Task:
        names = ("backbone", "label_space", "source_manifest", "target_manifest", "source_features", "target_features")
        parts = (self.artefact(name) for name in names)
        return make_task(*parts, params.load(self.workspace).train, self.context, self.artefact("domains"))

    def artefact(self, name: str) -> Any:
        return CATALOG[name].load(self.workspace)

    @cached_property
    def test(self) -> tuple[Images, np.ndarray]:
        """The target's labelled test images, and their features."""
        manifest = self.artefact("target_manifest").split("test").labelled
        return self._images(manifest), self.artefact("target_features").of(manifest)

    @cached_property
    def elsewhere(self) -> tuple[Images, np.ndarray]:
        """All labelled images of the source: the domain that was left out, where nothing was trained on it."""
        manifest = self.artefact("source_manifest").labelled
        return self._images(manifest), self.artefact("source_features").of(manifest)

    def _images(self, manifest: Manifest) -> Images:
        return Images(self.task.bank(manifest), self.task.label_space.indices(manifest.frame["label"]))

    def accuracy(self, network: Network, on: tuple[Images, np.ndarray] | None = None) -> float:
        """Share of right answers, in percent."""
        images, features = on or self.test
        found = answering.logits(network, images, features, self.task, choose("cpu"))
        return 100 * float((found.argmax(axis=1) == images.labels).mean())


def prepared(folder: Path, seed: int, assignments: Iterable[str]) -> Problem:
    """Run the stages up to the distance between domains."""
    fixed = [f"seed={seed}", "train.threads=1", "features.threads=1", "backbone.pretrain.threads=1"]
    loose = ["validate.min_labelled_per_class=0", "validate.unreadable=quarantine", "validate.max_copy_share=1"]
    run_stages(folder, [*fixed, *loose, *assignments], until="domains")
    return Problem(folder, seed)


# -- data sets as tables -----------------------------------------------------------------------------------------------


def write_table(folder: Path, rows: Iterable[Row], *, name: str = "table") -> Path:
    """``<name>.csv`` beside the images."""
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        writer.writerows(rows)
    return path


def digits(folder: Path, archive: str, *, train: int, test: int, labelled: bool, seed: int) -> Path:
    """Some images of MNIST, USPS or MNIST-M as PNG; those for training without labels where not ``labelled``."""
    loaded = np.load(REALDATA / f"{archive}.npz")
    random = np.random.default_rng([seed, 7])
    rows: list[Row] = []
    (folder / "images").mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        pixels, labels = loaded[f"x_{split}"], loaded[f"y_{split}"]
        # The test images are the same for every seed; those for training are drawn.
        chosen = random.permutation(len(pixels))[:count] if split == "train" else np.arange(min(count, len(pixels)))
        for number in chosen:
            name = f"images/{split}-{number:05d}.png"
            Image.fromarray(pixels[number]).save(folder / name)
            known = labelled or split == "test"
            # A labelled source keeps a tenth for validation: that is where its retention is measured.
            part = "val" if labelled and split == "train" and number % 10 == 0 else split
            rows.append((name, str(int(labels[number])) if known else "", part))
    return write_table(folder, rows)


def unpacked(archive: str, folder: Path) -> Path:
    """The folder of classes (or of splits, or of domains) in one of the archives."""
    with tarfile.open(REALDATA / f"{archive}.tar") as tar:
        tar.extractall(folder, filter="data")
    inside = [entry for entry in folder.iterdir() if entry.is_dir()]
    return inside[0] if len(inside) == 1 else folder


def class_folders(root: Path, is_wanted: Callable[[Path], bool] = lambda path: True) -> list[tuple[Path, str]]:
    """(image, class) below ``root``; the class is the name of the image's folder."""
    suffixes = {".jpg", ".jpeg", ".png"}
    found = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in suffixes and is_wanted(path)]
    return [(path, path.parent.name) for path in found]


def few_labels(root: Path, images: list[tuple[Path, str]], *, per_class: int, seed: int, most: int, test: int) -> Path:
    """A table of ``images`` below ``root``: the same ``test`` images for every seed, at most ``most`` for training, of
    which ``per_class`` of each class have a label.
    """
    order = np.random.default_rng(0).permutation(len(images))
    held_out, rest = order[:test], order[test : test + most]
    known: dict[str, int] = {}
    rows = [(images[row][0].relative_to(root).as_posix(), images[row][1], "test") for row in held_out]
    for row in np.random.default_rng([seed, 11]).permutation(rest):
        path, label = images[row]
        known[label] = known.get(label, 0) + 1
        is_known = known[label] <= per_class
        rows.append((path.relative_to(root).as_posix(), label if is_known else "", "train"))
    return write_table(root, rows)
