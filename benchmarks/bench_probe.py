"""How many times less does the probe's whole path of 12 penalties cost than 12 fits of scikit-learn's logistic
regression, at 50,000 images with 2,048 features and 10 classes, or 512 features and 100 classes? And does it cost no
more than scikit-learn's warm-started path at 1,400 images with 1,280 features and 2 classes?

How far probabilities are apart and the accuracy of the best penalty stand beside it. Each cell is a process of its own
on one thread, so that its peak memory is that of the fit: Graftline's solver; scikit-learn from zero for each penalty
(cold), from where the penalty before ended (warm), or until nothing moves (tight), which is right where both differ;
ridge and LDA in closed form. ``--ways`` names some of them. They take turns. Times are of the processor, not of the
clock.

Features are those of real networks: CIFAR-10's photos in ``shared/data`` (5,000 to train on, each in ten random crops;
1,000 to judge by) at 64 px, through resnet18 (512), or resnet18, mobilenet_v2 (1,280) and the first 256 of mobilenet_v2
for birds, side by side (2,048). The 10 classes are CIFAR-10's; the 100 are those of resnet18's own head that it names
most often, drawn with its probabilities. The 1,400 are
whole photos through mobilenet_v2, of animals or of vehicles.
``--features FOLDER`` keeps features there for the next run; what was found on them is found anew.

``--quick`` takes synthetic features of a small size, for a look at whether this file runs. ``--write`` puts the table
into the docs. ``bench_probe.py --cell WAY CASE --features FOLDER`` is one cell.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _bench import REALDATA, REPOSITORY, PeakMemory, provenance, replace_section, table
from threadpoolctl import threadpool_limits

from pipeline.training.classifiers import linear_probe
from pipeline.training.classifiers.closed_form import Sums, lda_path, ridge_path
from pipeline.training.classifiers.linear_probe import Head, Scaler, cross_entropy
from pipeline.training.task import Labelled

PENALTIES = np.geomspace(10, 1e-5, 12).tolist()
SHRINKAGES = np.geomspace(1, 1e-4, 12).tolist()
VIEWS, SIDE_PX, BATCH = 10, 64, 250
COMPARED = 5000
"""Training images whose probabilities are compared, beside all that are judged by."""

FEW, VEHICLES = 1400, (0, 1, 8, 9)

CASES = {"2048x10": (2048, 10), "512x100": (512, 100), "1280x2": (1280, 2)}
QUICK = {"64x5": (64, 5), "96x12": (96, 12), "300x2": (300, 2)}


# -- the ways to fit ---------------------------------------------------------------------------------------------------


def graftline(data: Labelled, classes: int) -> Iterator[Head]:
    return linear_probe.path(data, PENALTIES, classes)


def scikit_learn(data: Labelled, classes: int, *, warm: bool, tol: float = 1e-5) -> Iterator[Head]:
    """In double precision; tolerance 1e-5 as the probe was fitted before, with which weak penalties end early."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaler = Scaler.of(data.features)
    scaled = scaler(data.features)
    model = LogisticRegression(max_iter=1000 if tol > 1e-6 else 20_000, tol=tol, warm_start=warm)
    for penalty in PENALTIES:
        model.C = 1 / (penalty * len(data))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, data.labels)
        yield linear_probe.folded(model, scaler, classes)


WAYS: dict[str, Callable[[Labelled, int], Iterator[Head]]] = {
    "graftline": graftline,
    "cold": lambda data, classes: scikit_learn(data, classes, warm=False),
    "warm": lambda data, classes: scikit_learn(data, classes, warm=True),
    "tight": lambda data, classes: scikit_learn(data, classes, warm=True, tol=1e-9),
    "ridge": lambda data, classes: ridge_path(Sums.of(data, classes), PENALTIES),
    "lda": lambda data, classes: lda_path(Sums.of(data, classes), SHRINKAGES),
}
NAMES = {
    "graftline": "Graftline",
    "cold": "scikit-learn, each from zero",
    "warm": "scikit-learn, each from the last",
    "tight": "scikit-learn, to the very end",
    "ridge": "ridge, closed form",
    "lda": "LDA, closed form",
}


# -- the features ------------------------------------------------------------------------------------------------------


def prepare(folder: Path, quick: bool) -> None:
    """One file for each case: features and labels to fit to and to judge by."""
    if quick:
        for number, (case, (dim, classes)) in enumerate(QUICK.items()):
            _save(folder / f"{case}.npz", *_synthetic(2000, dim, classes, number))
        return
    if all((folder / f"{case}.npz").is_file() for case in CASES):
        return
    given, judged = _photos("train"), _photos("test")
    from pipeline.data.preprocessing import Preprocessing
    from pipeline.models.checkpoints import BackboneWeights, from_file

    def weights(name: str, file: str) -> BackboneWeights:
        preprocessing = Preprocessing(size_px=SIDE_PX, resize_px=SIDE_PX, fit="stretch")
        return from_file(name, REALDATA / "weights" / file, preprocessing, origin=file, where="benchmarks")

    networks = [
        weights("resnet18", "resnet18.safetensors"),
        weights("mobilenet_v2", "mobilenet_v2.safetensors"),
        weights("mobilenet_v2", "mobilenet_v2_inat_bird.safetensors"),
    ]
    fit = [_features(network, given, VIEWS) for network in networks]
    held_out = [_features(network, judged, 1) for network in networks]
    head = networks[0].head
    assert head is not None, "the checkpoint names a thousand classes"
    drawn = _named(fit[0], held_out[0], head["weight"].float().numpy(), head["bias"].float().numpy(), 100)
    _save(folder / "512x100.npz", Labelled(fit[0], drawn[0]), Labelled(held_out[0], drawn[1]))
    wide = [np.concatenate([*rows[:2], rows[2][:, :256]], axis=1) for rows in (fit, held_out)]
    some = np.random.default_rng(0).permutation(len(given[0]))[:FEW]
    few = _features(networks[1], (given[0][some], given[1][some]), 1)
    _save(
        folder / "1280x2.npz",
        Labelled(few, np.isin(given[1][some], VEHICLES).astype(int)),
        Labelled(held_out[1], np.isin(judged[1], VEHICLES).astype(int)),
    )
    _save(folder / "2048x10.npz", Labelled(wide[0], np.tile(given[1], VIEWS)), Labelled(wide[1], judged[1]))


def _save(file: Path, fit: Labelled, held_out: Labelled) -> None:
    np.savez(file, fit=fit.features, fit_labels=fit.labels, held_out=held_out.features, labels=held_out.labels)


def _photos(split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 32, 32, 3] and labels."""
    from PIL import Image

    pixels, names = [], []
    with tarfile.open(REALDATA / "cifar10.tar") as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            parts = Path(member.name).parts
            if member.isfile() and split in parts:
                content = tar.extractfile(member)
                assert content is not None, "a file"
                pixels.append(np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")))
                names.append(parts[-2])
    return np.stack(pixels), np.unique(names, return_inverse=True)[1]


def _features(weights: Any, photos: tuple[np.ndarray, np.ndarray], views: int) -> np.ndarray:
    """float32 [views · n, feature_dim]; one view is the whole photo, several are random crops, mirrored or not."""
    import torch

    from pipeline.data.transforms import preprocess
    from pipeline.features.engines import OnnxEngine

    engine, random, found = OnnxEngine.of(weights, None), np.random.default_rng(0), []
    for view in range(views):
        for start in range(0, len(photos[0]), BATCH):
            images = torch.from_numpy(photos[0][start : start + BATCH]).permute(0, 3, 1, 2)
            if views > 1:
                side = int(random.integers(22, 33))
                top, left = random.integers(0, 33 - side, 2)
                images = images[:, :, top : top + side, left : left + side]
                images = images.flip(3) if random.random() < 0.5 else images
            found.append(engine(preprocess(images, weights.preprocessing)))
        print(f"features · {weights.name} · view {view + 1} of {views}", file=sys.stderr, flush=True)
    return np.concatenate(found)


def _named(
    fit: np.ndarray, held_out: np.ndarray, weight: np.ndarray, bias: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both among the classes that the head names most often in the first, drawn with its probabilities."""
    often = np.argsort(-np.bincount((fit @ weight.T + bias).argmax(axis=1), minlength=len(bias)), kind="stable")
    random = np.random.default_rng(0)
    logits = [rows @ weight[often[:classes]].T + bias[often[:classes]] for rows in (fit, held_out)]
    first, second = ((part + random.gumbel(size=part.shape)).argmax(axis=1) for part in logits)
    return first, second


def _synthetic(count: int, dim: int, classes: int, seed: int) -> tuple[Labelled, Labelled]:
    """Classes around random centres; the spectrum of the noise falls as that of a network's features does."""
    random = np.random.default_rng(seed)
    labels = np.arange(count + 500) % classes
    turned = np.linalg.qr(random.normal(size=(dim, dim)))[0] * np.arange(1, dim + 1) ** -0.5
    features = random.normal(0, 0.1, (classes, dim))[labels] + random.normal(size=(len(labels), dim)) @ turned
    features = features.astype(np.float32)
    return Labelled(features[:count], labels[:count]), Labelled(features[count:], labels[count:])


# -- one cell ----------------------------------------------------------------------------------------------------------


def cell(way: str, case: str, folder: Path) -> None:
    """Fit the path, print what it took, and leave its probabilities in ``folder``."""
    given = np.load(folder / f"{case}.npz")
    fit, held_out = Labelled(given["fit"], given["fit_labels"]), Labelled(given["held_out"], given["labels"])
    classes = int(fit.labels.max()) + 1
    with threadpool_limits(1):
        import sklearn.linear_model  # noqa: F401  # the import is not what is measured

        memory = PeakMemory()
        started = time.process_time()
        heads = []
        for head in WAYS[way](fit, classes):
            heads.append(head)
            print(f"{way} · {case} · {len(heads)} · {time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
        seconds = time.process_time() - started
    mb = memory.mb
    rows = np.concatenate([fit.features[:: max(1, len(fit) // COMPARED)], held_out.features])
    np.save(folder / f"{case}-{way}.npy", np.stack([_softmax(head.logits(rows)) for head in heads]))
    losses = [cross_entropy(head.logits(held_out.features).astype(np.float64), held_out.labels) for head in heads]
    best = int(np.argmin(losses))
    right = float((heads[best].logits(held_out.features).argmax(axis=1) == held_out.labels).mean())
    print(json.dumps({"seconds": seconds, "mb": mb, "best": best, "accuracy": right, "rows": len(fit)}))


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


# -- the table ---------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What the turns of one way on one case gave."""

    cells: list[dict[str, Any]]

    def median(self, what: str) -> float:
        return statistics.median(cell[what] for cell in self.cells)

    @property
    def seconds(self) -> str:
        taken = [cell["seconds"] for cell in self.cells]
        digits = 2 if max(taken) < 10 else 0
        return f"{statistics.median(taken):.{digits}f} ({min(taken):.{digits}f} – {max(taken):.{digits}f})"


def _measured(way: str, case: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--cell", way, case, "--features", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(case: str, ways: dict[str, Found], folder: Path) -> list[list[str]]:
    body = []
    for way, found in ways.items():
        last = found.cells[-1]
        ratio = (
            f"{ways[way].median('seconds') / ways['graftline'].median('seconds'):.1f}" if "graftline" in ways else "–"
        )
        settings = SHRINKAGES if way == "lda" else PENALTIES
        body.append(
            [
                f"{last['rows']:,} × {case.replace('x', ' × ')}",
                NAMES[way],
                found.seconds,
                ratio,
                f"{found.median('mb'):.0f}",
                f"{last['accuracy']:.1%} at {settings[last['best']]:.1g}",
                _apart(case, way, folder),
            ]
        )
    return body


def _apart(case: str, way: str, folder: Path) -> str:
    """Largest difference in probability from Graftline's, of any image, class and penalty."""
    ours, theirs = folder / f"{case}-graftline.npy", folder / f"{case}-{way}.npy"
    if way not in ("cold", "warm", "tight") or not ours.is_file():
        return "–"
    gaps = np.abs(np.load(ours) - np.load(theirs)).max(axis=(1, 2))
    within = int((gaps <= 1e-3).sum())
    return f"{gaps.max():.0e}; within 1e-3 at {within} of {len(gaps)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", nargs=2, metavar=("WAY", "CASE"))
    parser.add_argument("--features", type=Path)
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["graftline", "cold", "warm", "ridge", "lda"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    known = QUICK if given.quick else CASES
    if unknown := [case for case in given.cases or () if case not in known]:
        parser.error(f"--cases: {', '.join(unknown)} is none of {', '.join(known)}")
    if given.cell:
        way, case = given.cell
        if given.features is None:
            parser.error("--cell needs --features FOLDER, where the case's features are kept")
        if way not in WAYS or not (given.features / f"{case}.npz").is_file():
            parser.error(f"--cell: no way {way} of {', '.join(WAYS)}, or no {case}.npz in {given.features}")
        cell(*given.cell, given.features)
        return
    if not given.quick and not (REALDATA / "weights").is_dir():
        print(f"No weights in {REALDATA}: only --quick can be run.")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.features or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder, given.quick)
        found: dict[str, dict[str, Found]] = {}
        for case in given.cases or known:
            for stale in folder.glob(f"{case}-*.npy"):  # of another run, perhaps of an older solver
                stale.unlink()
            found[case] = {way: Found([]) for way in given.ways}
            for _ in range(given.turns):
                for way in given.ways:
                    found[case][way].cells.append(_measured(way, case, folder))
        body = [row for case, ways in found.items() for row in rows_of(case, ways, folder)]
    header = ["images × features × classes", "how", "CPU s", "× Graftline", "MB", "best", "probabilities apart by"]
    text = (
        f"{table(header, body)}\n\n12 settings each; one thread; medians of {given.turns} turns, taken in turn, and "
        f"their range; MB is the growth of peak memory; {provenance()}."
    )
    print(text)
    if given.write:
        replace_section(REPOSITORY / "docs" / "performance.md", "probe", text)


if __name__ == "__main__":
    main()
