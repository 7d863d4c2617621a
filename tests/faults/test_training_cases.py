"""Data and numbers that training must live with: hardly any images, a class in a thousand, no contrast, NaN.

Every stage runs for real, on pictures of bars: class 0 has its bar on the left, class 1 further right, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from integration_tools import graftline, small_workspace
from PIL import Image

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.errors import DataError, GraftlineError, TrainingError, WeightsError, WorkspaceError
from pipeline.graph.executor import execute
from pipeline.graph.table import STAGES
from pipeline.models.network import build_backbone
from pipeline.release.pin import ensure_pins

PARAMS = """\
model: toys
ingest:
  target: {name: image_folder, path: data/photos}
  source: null
backbone: {name: small_cnn, weights: none}
train:
  threads: 1
  strategy: {name: probe}
explain: {images: 4, classes: 1}
publish: {handoff: handoff}
"""

ORDER = [stage.name for stage in STAGES]


@pytest.fixture
def workspace(tmp_path) -> Path:
    """Without images, which each test draws."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    ensure_pins(tmp_path)
    return tmp_path


def draw(folder: Path, *counts: int, seed: int = 0) -> None:
    """So many pictures of bars of each class, 24 × 24 px."""
    random = np.random.default_rng(seed)
    for bar, count in enumerate(counts):
        for number in range(count):
            pixels = random.integers(0, 90, (24, 24, 3), dtype=np.uint8)
            pixels[:, 3 + 7 * bar : 7 + 7 * bar] = 150
            save(folder / f"class{bar}/{number:05}.png", pixels)


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def run(workspace: Path, *, until: str = "package") -> dict[str, str]:
    """Run the stages up to this one; returns what each had to say."""
    return {name: execute(workspace, name).line for name in ORDER[: ORDER.index(until) + 1]}


def made(workspace: Path, name: str) -> object:
    return CATALOG[name].load(workspace)


def assert_nothing_to_release(workspace: Path) -> None:
    """The stage left no network, and what comes after it says what is missing."""
    assert not (workspace / CATALOG["network"].path).exists()
    assert not (workspace / "handoff").exists()
    with pytest.raises(WorkspaceError) as caught:
        execute(workspace, "export")
    assert f"no {CATALOG['network'].path}" in str(caught.value)


def numbers_in(value: object) -> Iterator[float]:
    """Every number of a report, however deep."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float):
        yield value


def assert_finite(workspace: Path, reports: Iterable[str] = ("metrics", "training", "parity", "robustness")) -> None:
    for name in reports:
        assert all(map(math.isfinite, numbers_in(made(workspace, name).model_dump()))), name
    state = made(workspace, "network").state
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


# -- hardly any images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [False, True], ids=["alone", "beside a source of two"])
def test_one_class_only(workspace, source):
    """There is nothing to tell apart: said by the first stage, which leaves nothing; a source does not change that."""
    draw(workspace / "data/photos", 12)
    if source:
        draw(workspace / "data/drawn", 6, 6)
        params.assign(workspace, ["ingest.source={name: image_folder, path: data/drawn}"])

    with pytest.raises(DataError) as caught:
        execute(workspace, "ingest")
    assert "Expected images of at least two classes; found one class only, 'class0'" in str(caught.value)
    assert "Give the folder that holds a folder per class" in str(caught.value)
    assert not any((workspace / CATALOG[name].path).exists() for name in STAGES[0].outputs)


@pytest.mark.parametrize("strategy", ["probe", "auto"])
def test_one_image_per_class(workspace, strategy):
    """Where the limits allow it a network is made, and the gates hold what nobody could score."""
    draw(workspace / "data/photos", 1, 1, 1)
    limits = ["validate.min_labelled_per_class=1", "validate.min_images=3", "ingest.test_share=0", "ingest.val_share=0"]
    params.assign(workspace, [*limits, f"train.strategy.name={strategy}"])

    said = run(workspace, until="gate" if strategy == "probe" else "train")
    assert "3 labelled target images, 3 classes" in said["train"]
    if strategy == "probe":
        assert "no labelled test image, nothing scored" in said["evaluate"]
        assert not made(workspace, "verdict").passed
        assert_finite(workspace)


def test_a_class_in_a_thousand(workspace):
    """It is learnt from, warned of, and its recall is told with an interval as wide as one image makes it."""
    for split, counts in {"train": (1000, 1), "val": (10, 1), "test": (30, 1)}.items():
        draw(workspace / f"data/photos/{split}", *counts, seed=len(split))
    params.assign(workspace, ["validate.min_labelled_per_class=1"])

    said = run(workspace, until="evaluate")
    assert "(1,001 train, 11 val, 31 test labelled)" in said["ingest"]
    warned = {check.name: check.named for check in made(workspace, "validation").warnings}
    assert ["class 'class1': 1,000 times rarer than the largest class"] == warned["balance"]
    rare = next(score for score in made(workspace, "metrics").per_class if score.label == "class1")
    assert (1, 1.0) == (rare.images, rare.recall)  # bars are easy, one of them is enough
    assert rare.recall_low < 0.25
    assert made(workspace, "metrics").worst_class_recall == rare.recall
    assert_finite(workspace, ("metrics", "training", "parity"))


def test_a_class_that_the_source_alone_has(workspace):
    """The backbone learns from it, the model never answers with it, and the first line names it."""
    draw(workspace / "data/photos", 12, 12)
    draw(workspace / "data/drawn", 12, 12, 12, seed=1)
    params.assign(
        workspace,
        [
            "ingest.source={name: image_folder, path: data/drawn}",
            "backbone.weights=pretrain",
            "backbone.pretrain.epochs=1",
        ],
    )

    said = run(workspace)
    assert "2 classes · source only: class2" in said["ingest"]
    assert 3 == made(workspace, "backbone").facts.head_classes
    assert "class0\nclass1\n" == (workspace / "bundle/labels.txt").read_text()
    assert ["class0", "class1"] == made(workspace, "metrics").classes
    assert 0 < made(workspace, "metrics").source_images < 24  # of the two classes that both have


# -- pictures without contrast -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["probe", "full", "lda"])
def test_images_of_one_colour(workspace, strategy):
    """No number becomes NaN where nothing varies within an image; colours are all that tells the classes apart."""
    for label in range(2):
        for number in range(20):
            colour = (5 * number, 200 * label, 9)
            save(workspace / f"data/photos/class{label}/{number}.png", np.full((24, 24, 3), colour, np.uint8))
    params.assign(workspace, [f"train.strategy.name={strategy}"])

    run(workspace, until="explain" if strategy == "probe" else "train")
    if strategy == "probe":
        assert_finite(workspace)
    assert all(map(math.isfinite, numbers_in(made(workspace, "training").model_dump())))


def test_one_image_under_every_name(workspace):
    """Forty copies of one black image with two labels: warned of, and held by the gates for want of a test image."""
    for number in range(40):
        save(workspace / f"data/photos/class{number % 2}/{number}.png", np.zeros((24, 24, 3), np.uint8))

    said = run(workspace, until="gate")
    assert "39 duplicates or near-duplicates kept together" in said["ingest"]
    assert "label_conflict" in {check.name for check in made(workspace, "validation").warnings}
    assert not made(workspace, "verdict").passed
    assert_finite(workspace)


# -- numbers that are none ---------------------------------------------------------------------------------------------


def test_a_loss_that_becomes_nan(workspace):
    """Training stops in its first epoch, with the remedy; there is no network, and nothing after it can start."""
    draw(workspace / "data/photos", 12, 12)
    params.assign(workspace, ["train.strategy={name: full, learning_rate: 1e38}"])
    run(workspace, until="domains")

    with pytest.raises(TrainingError) as caught:
        execute(workspace, "train")
    assert "The training loss became nan in phase 'full', epoch 1." in str(caught.value)
    assert "lower the strategy's rates tenfold." in str(caught.value)
    assert_nothing_to_release(workspace)


@pytest.mark.faults
def test_a_loss_that_becomes_nan_in_a_whole_run(tmp_path):
    """The command ends with the stage's own words and exit code 1; no version, no champion, no hand-off."""
    workspace = small_workspace(tmp_path / "digits")
    params.assign(workspace, ["train.strategy={name: full, learning_rate: 1e38}"])

    done = graftline("run", "--inline", workspace=workspace)
    assert 1 == done.returncode, done.stdout + done.stderr
    assert 1 == (done.stdout + done.stderr).count("The training loss became nan")
    assert "Traceback" not in done.stdout + done.stderr
    assert not (workspace / "handoff").exists()
    assert "none yet" in graftline("status", workspace=workspace).stdout


def weights_file(workspace: Path, **changed: torch.Tensor) -> None:
    """A checkpoint of small_cnn, but for what is changed; params.yaml names it."""
    file = workspace / "weights.pt"
    torch.save(build_backbone("small_cnn", 0).state_dict() | changed, file)
    params.assign(workspace, [f"backbone.weights={{file: weights.pt, sha256: {digests.of_file(file)}}}"])


def changed_value(name: str, value: float, *, everywhere: bool = False) -> dict[str, torch.Tensor]:
    tensor = build_backbone("small_cnn", 0).state_dict()[name].clone()
    tensor.view(-1)[slice(None) if everywhere else 0] = value
    return {name: tensor}


FIRST, LAST_SCALE = "stem.0.0.weight", "stage3.0.1.weight"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_checkpoint_with_one_number_that_is_none(workspace, value):
    """Refused where it is read, with the tensor's name: one NaN makes every answer the same."""
    draw(workspace / "data/photos", 12, 12)
    weights_file(workspace, **changed_value(FIRST, value))
    run(workspace, until="validate")

    with pytest.raises(WeightsError) as caught:
        execute(workspace, "backbone")
    assert f"found NaN or infinity in {FIRST} of weights.pt" in str(caught.value)
    assert "from before the training that wrote it went wrong" in str(caught.value)
    assert not (workspace / CATALOG["backbone"].path).exists()


def test_features_that_overflow(workspace):
    """Sound weights can overflow on an image, in half precision first: named, before a classifier is fitted to them."""
    draw(workspace / "data/photos", 12, 12)
    weights_file(workspace, **changed_value(LAST_SCALE, 1e30, everywhere=True))
    params.assign(workspace, ["features.dtype=float16"])
    run(workspace, until="backbone")

    with pytest.raises(DataError) as caught:
        execute(workspace, "features")
    assert "found NaN or infinity for 24 of 24 images, the first class0/00000.png" in str(caught.value)
    assert "set features.dtype to float32" in str(caught.value)
    assert not (workspace / CATALOG["target_features"].path).exists()


def test_weights_that_overflow_after_the_last_loss(workspace):
    """A network whose statistics became infinite while its losses stayed finite is not kept."""
    draw(workspace / "data/photos", 12, 12)
    weights_file(workspace, **changed_value("stage1.0.0.weight", 1e30, everywhere=True))
    params.assign(workspace, ["train.strategy={name: full, epochs: 1}"])
    run(workspace, until="domains")

    with pytest.raises(GraftlineError) as caught:
        execute(workspace, "train")
    assert "ended with NaN or infinity in backbone.stage1.0.1.running_var" in str(caught.value)
    assert_nothing_to_release(workspace)
