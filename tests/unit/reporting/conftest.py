"""A workspace as the stages leave it, made of the reports' own types: a changed report breaks these tests."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core.files import write_text
from pipeline.core.seeding import derive
from pipeline.data.manifest import Manifest
from pipeline.data.profile import DataProfile
from pipeline.data.validation import Check, Quarantined, ValidationReport
from pipeline.evaluation.assessment import Panel, Trial
from pipeline.evaluation.champion import ChampionPin
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.report import Latency, Metrics
from pipeline.gates._base import Verdict, finding
from pipeline.training.record import Epoch, Group, TrainingRecord

EVIL_NAME = "<script>alert(1)</script>.png"
EVIL_LABEL = "<b>x"
CLASSES = ["cat", EVIL_LABEL, "dog"]


class Workspace(SimpleNamespace):
    """``root``, ``settings`` and ``classes``; the images are noise, the answers right in about four of five cases."""

    root: Path
    settings: SimpleNamespace
    classes: list[str]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Made once; tests get copies."""
    return make_workspace(tmp_path_factory.mktemp("reporting") / "pristine")


@pytest.fixture
def workspace(tmp_path: Path, pristine: Workspace) -> Workspace:
    """60 test images of three classes, one of them with a hostile name; a champion; one failed gate."""
    root = shutil.copytree(pristine.root, tmp_path / "with space")
    return Workspace(root=root, settings=pristine.settings, classes=pristine.classes)


def make_workspace(
    root: Path, classes: list[str] = CLASSES, images: int = 60, sharpness: float = 3.0, side_px: int = 8
) -> Workspace:
    """Write every file that the report reads; equal arguments write equal files."""
    rng = np.random.default_rng(derive(0, "reporting"))
    manifest = _manifest(root, classes, images, side_px, rng)
    ours = Panel("challenger", classes, _probabilities(manifest, classes, sharpness, rng))
    theirs = Panel("digits v1", classes, _probabilities(manifest, classes, sharpness - 1, rng))
    trial = Trial(manifest, ours, theirs, resamples=200, seed=0)
    features = ours.probabilities + rng.normal(0, 0.3, ours.probabilities.shape)
    figures = trial.figures(features)
    _write(root, manifest, trial, figures, classes)
    _write_run(root)
    settings = SimpleNamespace(
        model="digits",
        seed=0,
        ingest=SimpleNamespace(source="rendered_digits"),
        backbone=SimpleNamespace(name="small_cnn"),
        train=SimpleNamespace(strategy=SimpleNamespace(name="lp_ft")),
        publish=SimpleNamespace(handoff="handoff"),
        notify=SimpleNamespace(webhook=None),
    )
    return Workspace(root=root, settings=settings, classes=classes)


def _manifest(root: Path, classes: list[str], images: int, side_px: int, rng: np.random.Generator) -> Manifest:
    folder = root / "images"
    folder.mkdir(parents=True)
    rows = []
    for number in range(images):
        name = "<script>alert(1)<∕script>.png" if number == 0 else f"{number:04d}.png"
        Image.fromarray(rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)).save(folder / name)
        rows.append(
            {
                "id": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                "path": f"images/{name}",
                "name": EVIL_NAME
                if number == 0
                else name,  # a slash cannot stand in a file's own name, but in a member's
                "label": classes[number % len(classes)],
                "domain": "target",
                "split": "test",
                "width": side_px,
                "height": side_px,
                "mode": "RGB",
                "format": "PNG",
                "bytes": 100,
                "camera": "<i>phone</i>" if number % 3 else "scanner",
            }
        )
    manifest = Manifest.of(pd.DataFrame(rows))
    manifest.save(root / "data/manifest/target.parquet")
    return manifest


def _probabilities(manifest: Manifest, classes: list[str], sharpness: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with a push towards the right class; the image with the hostile name is wrong and sure of it."""
    truth = np.array([classes.index(label) for label in manifest.frame["label"]])
    logits = rng.normal(0, 1, (len(truth), len(classes)))
    logits[np.arange(len(truth)), truth] += sharpness * rng.random(len(truth))
    evil = manifest.frame["name"].to_numpy() == EVIL_NAME
    logits[evil, (truth[evil] + 1) % len(classes)] = 20
    odds = np.exp(1.5 * logits)
    return odds / odds.sum(1, keepdims=True)


def _write(root: Path, manifest: Manifest, trial: Trial, figures: dict, classes: list[str]) -> None:
    reports = root / "reports"
    Metrics(
        **figures, classes=classes, champion=["digits v1", "0" * 64], model_size_mb=0.39, champion_size_mb=0.39
    ).save(reports / "metrics.json")
    Latency(p50_ms=1.12, p95_ms=1.42, champion_p50_ms=1.1, champion_p95_ms=1.5, runs=100, height_px=8, width_px=8).save(
        reports / "latency.json"
    )
    Predictions.of(manifest, trial.challenger.probabilities, classes, list(trial.champion.predicted)).save(
        reports / "predictions.parquet"
    )
    now = DataProfile.of(target=manifest, source=Manifest.empty())
    before = DataProfile.of(target=manifest.where(manifest.frame.index < 50), source=Manifest.empty())
    ChampionPin(model="digits", version=1, sha256="0" * 64, profile=before.model_dump(mode="json")).save(
        root / "state/champion.json"
    )
    validation(now).save(reports / "validation.json")
    write_text(reports / "data_docs/index.html", "<!DOCTYPE html><title>Data validation</title>")
    verdict().save(reports / "verdict.json")
    training().save(reports / "training.json")


def validation(profile: DataProfile) -> ValidationReport:
    """One check passed, one had nothing to look at, one warned about the image with the hostile name; one
    file was set aside."""
    readable = Check(
        suite="images",
        name="readable",
        says="every image can be read",
        severity="critical",
        passed=True,
        observed="all 60 images",
    )
    small = Check(
        suite="images",
        name="min_side_px",
        says="the shorter side of an image has 16 px or more",
        severity="warning",
        passed=False,
        observed="1 of 60 images do not",
        unexpected_count=1,
        images=[EVIL_NAME],
        reasons=["8 px"],
        remedy="Leave small images out.",
    )
    taught = Check(
        suite="classes",
        name="class_in_source",
        says="every class is in the source",
        severity="warning",
        passed=True,
        applicable=False,
        observed="nothing to look at",
    )
    return ValidationReport(
        success=True,
        checks=[readable, taught, small],
        quarantined=[Quarantined(domain="target", name="<u>torn</u>.jpg", reason="truncated")],
        leaks=[],
        leak_count=0,
        profile=profile,
        changes=[],
    )


def verdict(*, passed: bool = False) -> Verdict:
    floor = finding(
        "pipeline.gates.accuracy_floor", True, observed="accuracy 0.817 on 60 images", required="floor 0.80"
    )
    calibration = finding(
        "pipeline.gates.calibration", passed, observed="ECE 0.102", required="up to 0.050", why="surer than it is right"
    )
    return Verdict(passed=passed, findings=[floor, calibration], off=["latency"])


def training() -> TrainingRecord:
    history = [
        Epoch(phase="probe", epoch=number, train_loss=2 / number, val_loss=2, val_accuracy=0.9, learning_rate=0.1)
        for number in range(1, 9)
    ] + [
        Epoch(phase="fine_tune", epoch=number, train_loss=0.2, val_loss=0.26, val_accuracy=0.95, learning_rate=0.001)
        for number in range(1, 7)
    ]  # fmt: skip
    return TrainingRecord(
        strategy="lp_ft",
        params={"name": "lp_ft"},
        classes=CLASSES,
        labels_from="target",
        images={"train": 50, "val": 10, "unlabelled": 700},
        selection="validation split",
        chosen={"penalty": 0.01},
        val_accuracy=0.95,
        history=history,
        groups=[
            _group("probe", "block1", None),
            _group("probe", "head", 0.1),
            _group("fine_tune", "block1", 1e-5),
            _group("fine_tune", "head", 1e-3),
        ],
        guards={"frozen_weights_unchanged": True},
        sentences=["The penalty 0.01 was chosen from 9 on the validation images.", "Few labels: layers move slowly."],
    )


def _group(phase: str, group: str, rate: float | None) -> Group:
    return Group(
        phase=phase, group=group, parameters=4864, trainable=rate is not None, learning_rate=rate, batch_norm="fixed"
    )


def _write_run(root: Path) -> None:
    """What the executor, the flow and the package stage leave."""
    costs = {
        "ingest": (6.2, 310, "60 images · 3 classes"),
        "train": (18.5, 620, "lp_ft"),
        "gate": (0.2, 120, "1 failed"),
    }
    folder = root / ".graftline/costs"
    folder.mkdir(parents=True)
    for stage, (seconds, peak_mb, line) in costs.items():
        cost = {"stage": stage, "seconds": seconds, "peak_mb": peak_mb, "line": line}
        (folder / f"{stage}.json").write_text(json.dumps(cost | {"finished": "2026-11-20T11:52:07+0000"}))
    (root / "params.yaml").write_text("model: digits  # <b>name</b>\nseed: 0\n")
    (root / "models").mkdir()
    (root / "models/model.onnx").write_bytes(b"onnx")
    (root / "bundle").mkdir()
    (root / "bundle/model.onnx").write_bytes(b"onnx")
    judged = {"model": "digits", "verdict_digest": "d"}
    (root / "state/history.jsonl").write_text(
        json.dumps(judged | {"action": "promoted", "version": 1, "model_sha256": "0" * 64})
        + "\n"
        + json.dumps(judged | {"action": "held", "version": 2, "model_sha256": hashlib.sha256(b"onnx").hexdigest()})
        + '\n{"action": "pro'
    )


@pytest.fixture
def make() -> Callable[..., Workspace]:
    """:func:`make_workspace`, for tests that want another size."""
    return make_workspace
