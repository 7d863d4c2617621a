"""The evaluate stage on the toy domains, with a model that reads the bars."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pipeline.core.known import Known
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.evaluation.champion import FOLDER, ChampionPin
from pipeline.serving.export import to_onnx
from pipeline.serving.onnx_file import OnnxFile
from pipeline.stages import evaluate
from pipeline.training.record import Epoch, TrainingRecord

CLASSES = ["class0", "class1", "class2"]
EPOCH = Epoch(phase="probe", epoch=1, train_loss=0.5, val_loss=0.4, val_accuracy=0.9, learning_rate=0.1)
TRAINING = TrainingRecord(
    strategy="probe",
    params={},
    classes=CLASSES,
    labels_from="target",
    images={},
    selection="validation",
    history=[EPOCH],
)
PARAMS = evaluate.Params(bootstrap=200, latency_runs=10)


class BarReader(nn.Module):
    """The class is where the column means are highest; with ``shift`` it is always wrong."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        bars = torch.zeros(3, 24)
        for bar in range(3):
            bars[(bar + shift) % 3, 4 + 6 * bar : 8 + 6 * bar] = 1.0
        self.register_buffer("bars", bars)

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2)) @ self.bars.T


def exported(shift: int) -> OnnxFile:
    preprocessing = Preprocessing(size_px=24, resize_px=24, fit="stretch")
    return to_onnx(BarReader(shift).eval(), preprocessing, CLASSES, {"backbone": "bars"})


@pytest.fixture(scope="module")
def right() -> OnnxFile:
    return exported(shift=0)


@pytest.fixture(scope="module")
def wrong() -> OnnxFile:
    return exported(shift=1)


@pytest.fixture
def run(toy_domains, right):
    def call(**changed):
        target = changed.get("target_manifest", toy_domains.target)
        inputs = {
            "model": right,
            "champion": ChampionPin(),
            "label_space": toy_domains.labels,
            "source_manifest": toy_domains.source,
            "target_manifest": target,
            "target_features": SimpleNamespace(array=np.random.default_rng(0).normal(size=(len(target), 4))),
            "training": TRAINING,
        }
        return evaluate.run(PARAMS, changed.pop("context", toy_domains.context()), **(inputs | changed))

    return call


def pin(workspace, model: OnnxFile) -> ChampionPin:
    model.save(workspace / FOLDER / f"{model.digest}.onnx")
    return ChampionPin(model="bars", version=1, sha256=model.digest)


def test_scores_what_is_labelled_and_answers_everything(run):
    """Half of the twelve test images have labels; all twelve are in the predictions."""
    result = run()
    metrics = result.outputs["metrics"]
    assert (6, 1.0, 1.0) == (metrics.images, metrics.accuracy, metrics.source_accuracy)
    assert metrics.source_images == 12
    assert "6 test images have no label: answered, not scored" in metrics.notes
    assert 12 == len(result.outputs["predictions"])
    assert result.line.startswith("accuracy 1.000 (0.610–1.000) on 6 test images · ")
    assert {("domain", "target"), ("domain", "source")} == {(row.column, row.value) for row in metrics.slices}


def test_the_champion_answers_the_same_images(run, toy_domains, wrong):
    """A champion that is always wrong: every image is fixed, and both are timed."""
    result = run(champion=pin(toy_domains.workspace, wrong))
    metrics = result.outputs["metrics"]
    gain = metrics.comparison("champion")
    assert ("bars v1", 6, 6, 0) == (gain.name, gain.images, gain.fixed, gain.broken)
    assert [wrong.digest] == metrics.champion[1:]
    assert result.outputs["latency"].champion_p50_ms > 0
    assert metrics.champion_size_mb == wrong.size_mb
    assert "+1.000 against bars v1" in result.line
    predictions = result.outputs["predictions"].frame
    assert not (predictions["predicted"] == predictions["champion_predicted"]).any()


@pytest.fixture
def images_asked(monkeypatch):
    """Of how many images a file is asked for its answer, from now on."""
    asked, of = [], Known.recall

    def noted(self, ids, found):
        new = of(self, ids, found)
        asked.append(len(new))
        return new

    monkeypatch.setattr(Known, "recall", noted)
    return asked


def test_a_champion_is_not_asked_again_what_it_answered_when_it_was_new(
    run, toy_domains, tmp_path, right, wrong, images_asked
):
    """The run in which it was the challenger kept its answers; once it is no champion they are forgotten."""
    context, other = toy_domains.context(cache=tmp_path / "cache"), exported(shift=2)
    run(context=context, model=wrong)
    second = run(context=context, model=right, champion=pin(toy_domains.workspace, wrong))
    third = run(context=context, model=other, champion=pin(toy_domains.workspace, right))
    # Its own, the champion's, on the source; the first had no champion.
    assert [12, 12, 12, 0, 12, 12, 0, 12] == images_asked
    assert 2 == len(list((tmp_path / "cache" / "answers").iterdir()))
    for found, inputs in ((second, (right, wrong)), (third, (other, right))):
        alone = run(model=inputs[0], champion=pin(toy_domains.workspace, inputs[1]))
        assert alone.outputs["metrics"] == found.outputs["metrics"]
        pd.testing.assert_frame_equal(alone.outputs["predictions"].frame, found.outputs["predictions"].frame)


def test_without_labels_nothing_is_scored_and_nothing_breaks(run, toy_domains):
    frame = toy_domains.target.frame.assign(label=pd.Series([None] * len(toy_domains.target), dtype="str"))
    result = run(target_manifest=Manifest.of(frame))
    assert result.outputs["metrics"].accuracy is None
    assert result.line.startswith("no labelled test image, nothing scored")


def test_without_any_test_image_time_is_still_measured(run, toy_domains):
    """On a grey image of the size that the model resizes to."""
    result = run(target_manifest=toy_domains.target.split("train", "val"))
    latency = result.outputs["latency"]
    assert (24, 24) == (latency.height_px, latency.width_px)
    assert 0 == len(result.outputs["predictions"])


def test_without_a_source_there_is_no_source_accuracy(run):
    assert run(source_manifest=Manifest.empty()).outputs["metrics"].source_accuracy is None


def test_a_leak_is_counted_and_named(run, toy_domains):
    """A test image whose bytes are also trained on."""
    frame = toy_domains.target.frame.copy()
    test, train = (frame.index[frame["split"] == split][0] for split in ("test", "train"))
    frame.loc[test, ["id", "path"]] = frame.loc[train, ["id", "path"]]
    metrics = run(target_manifest=Manifest(frame)).outputs["metrics"]
    assert (1, [frame.loc[test, "name"]]) == (metrics.leaked_images, metrics.leaks)


def test_equal_inputs_give_equal_reports(run):
    """All but the clock's readings."""
    once, again = run().outputs, run().outputs
    assert once["metrics"] == again["metrics"]
    pd.testing.assert_frame_equal(once["predictions"].frame, again["predictions"].frame)


def test_plots_are_ready_for_dvc(run):
    folder = run().outputs["plots"].path
    assert ["confusion.csv", "curves.csv", "reliability.csv"] == sorted(path.name for path in folder.iterdir())
    assert "1,probe,1,0.5,0.4,0.9,0.1" in (folder / "curves.csv").read_text()
