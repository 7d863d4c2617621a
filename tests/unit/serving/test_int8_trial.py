"""The int8 trial: what is measured on what, who ships, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.serving import int8_trial, quantisation
from pipeline.serving.export import to_onnx

CLASSES = ["class0", "class1", "class2"]


class Bars(nn.Module):
    """Reads where the bright bar is: three columns of a 3 × 24 mean image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 1, 1, bias=False), nn.Linear(24, 3)
        nn.init.constant_(self.conv.weight, 1 / 3)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.zero_()
            for bar in range(3):
                self.head.weight[bar, 4 + 6 * bar : 8 + 6 * bar] = 1.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(images).mean(2).flatten(1))


@pytest.fixture(scope="module")
def model():
    return to_onnx(Bars().eval().requires_grad_(False), Preprocessing(size_px=24, resize_px=24, fit="stretch"), CLASSES)


@pytest.fixture
def attempt(model, toy_domains):
    def call(target: Manifest | None = None, source: Manifest | None = None, *, max_drop: float = 0.01):
        target = toy_domains.target if target is None else target
        return int8_trial.attempt(
            model, target, source, toy_domains.context(), calibration_images=10, max_drop=max_drop
        )

    return call


@pytest.fixture
def broken(monkeypatch, model):
    """An int8 file that names other classes."""
    network = Bars().eval().requires_grad_(False)
    network.head.weight.copy_(network.head.weight.roll(1, dims=0))
    bad = to_onnx(network, Preprocessing(size_px=24, resize_px=24, fit="stretch"), CLASSES)
    monkeypatch.setattr(quantisation, "quantise", lambda model, images: (list(images), bad)[1])


def without_labels(manifest: Manifest) -> Manifest:
    return Manifest(manifest.frame.assign(label=None).astype({"label": "str"}))


def test_a_good_file_ships_and_says_what_it_costs(attempt, model):
    """Accuracy of both on the labelled validation images, with the interval of the loss, the further images, both
    sizes."""
    trial = attempt()
    result = trial.quantisation
    assert result.shipped
    assert "int8" == trial.model.metadata["precision"]
    assert ("labelled validation images", 6) == (result.measured_on, result.images)
    assert ("unlabelled images", 0.0) == (result.also_on, result.also_disagreement)
    assert 6 < result.also_images < 6 + 18, "unlabelled ones of val and train that did not calibrate"
    assert (10, "target") == (result.calibration_images, result.calibration_domain)
    assert (1.0, 1.0, 0.0, 1.0) == (result.accuracy, result.accuracy_int8, result.drop, result.agreement)
    assert result.drop_low < -0.3 < 0.3 < result.drop_high, "six images prove little"
    assert (model.size_mb, trial.model.size_mb) == (result.size_mb, result.size_int8_mb)
    assert result.remedy is None
    assert result.sentence.startswith(
        "int8 ships: accuracy 1.000 against 1.000 in float32, drop +0.000 (-0.390 to +0.390) on 6 labelled validation"
        " images; another class than float32 for a share of 0.000 (0.000–"
    )
    assert result.sentence.endswith(" unlabelled images; 0.0 MB instead of 0.0 MB")


def test_a_file_that_loses_too_much_is_refused(attempt, broken, model):
    """float32 ships, and the sentence says by how much and what to try."""
    trial = attempt()
    assert trial.model is model
    assert not trial.quantisation.shipped
    assert (
        "int8 refused: accuracy 0.000 against 1.000 in float32, drop +1.000 (+0.219 to +1.000) on 6 labelled validation"
        " images, limit 0.01; float32 ships" == trial.quantisation.sentence
    )
    assert "export.int8_max_drop" in trial.quantisation.remedy


def test_the_limit_is_the_users(attempt, broken):
    """A loss that params.yaml allows ships."""
    assert attempt(max_drop=1.0).quantisation.shipped


def test_few_labelled_images_do_not_suffice(attempt, toy_domains, monkeypatch):
    """Right on all six of them, int8 is refused for another class on an unlabelled image."""
    answers = int8_trial._answers
    asked = []

    def one_off(file, rows):
        asked.append(len(rows))
        return np.roll(answers(file, rows), 1) if len(asked) == 4 else answers(file, rows)

    monkeypatch.setattr(int8_trial, "_answers", one_off)
    result = attempt().quantisation
    assert (False, 6, 0.0) == (result.shipped, result.images, result.drop)
    assert result.also_disagreement > 0.01
    assert "labelled validation images; another class than float32 for a share of " in result.sentence
    assert "export.int8_max_drop" in result.remedy


def test_enough_labelled_images_suffice(attempt, monkeypatch):
    """From the limit on they are asked alone."""
    monkeypatch.setattr(int8_trial, "ENOUGH_LABELLED", 6)
    result = attempt().quantisation
    assert (True, 0, None) == (result.shipped, result.also_images, result.also_on)


def test_few_labelled_images_and_no_others_are_too_few(attempt, toy_domains):
    """Six labelled validation images, while the source calibrates."""
    val = toy_domains.target.split("val").labelled
    result = attempt(val, toy_domains.source).quantisation
    assert not result.shipped
    assert "too few to prove anything, and no other image is left to measure on; float32 ships" in result.sentence
    assert "Label 200 validation images" in result.remedy


def test_without_validation_labels_unlabelled_images_come_before_labelled_training_images(attempt, toy_domains):
    """The network has seen the labels of the latter; 18 of 36 training images have none."""
    train = toy_domains.target.split("train", "test")
    result = attempt(train).quantisation
    assert ("unlabelled images", None) == (result.measured_on, result.accuracy)
    assert 0 < result.images < 18
    labelled = attempt(train.labelled).quantisation
    assert ("training images", None, 9) == (labelled.measured_on, labelled.accuracy, labelled.calibration_images)


def test_half_of_few_training_images_is_kept_aside(model, attempt, toy_domains):
    """More calibration images than there are would leave none to measure on."""
    few = Manifest(toy_domains.target.split("train").frame.iloc[:8].reset_index(drop=True))
    result = attempt(few).quantisation
    assert (4, True) == (result.calibration_images, result.images > 0)


def test_without_labels_every_disagreement_counts_as_a_loss(attempt, broken, toy_domains):
    """Nobody knows which of the two is right."""
    result = attempt(without_labels(toy_domains.target)).quantisation
    assert ("unlabelled images", 38) == (result.measured_on, result.images), "36 + 12, less ten that calibrate"
    assert (None, 1.0) == (result.accuracy, result.drop)
    assert "int8 refused: another class than float32 for a share of 1.000 (0.908–1.000) on 38 unlabelled" in (
        result.sentence
    )


def test_test_labels_choose_nothing(attempt, toy_domains):
    """Shuffled labels of the test split change neither the figures nor the file."""
    frame = toy_domains.target.frame.copy()
    is_test = frame["split"] == "test"
    frame.loc[is_test, "label"] = np.roll(frame.loc[is_test, "label"].to_numpy(), 5)
    honest, shuffled = attempt(), attempt(Manifest(frame))
    assert honest.quantisation == shuffled.quantisation
    assert honest.model.digest == shuffled.model.digest


def test_source_images_calibrate_where_the_target_has_none_to_train_on(attempt, toy_domains):
    """A target of validation and test images alone."""
    result = attempt(toy_domains.target.split("val", "test"), toy_domains.source).quantisation
    assert ("source", True) == (result.calibration_domain, result.shipped)


def test_what_cannot_be_measured_is_refused(attempt, toy_domains):
    """No image is left to compare on, or none to calibrate with; each with a way out of its own."""
    only_test = toy_domains.target.split("test")
    unmeasured = attempt(only_test, toy_domains.source).quantisation
    assert "int8 refused: no target image is left to measure the drop on; float32 ships" == unmeasured.sentence
    uncalibrated = attempt(only_test).quantisation
    assert "int8 refused: there is no training image to calibrate on; float32 ships" == uncalibrated.sentence
    assert uncalibrated.size_int8_mb is None
    assert "Calibrate on fewer images (export.int8_calibration_images)" in unmeasured.remedy
    assert "a source domain: ranges come from training images" in uncalibrated.remedy
