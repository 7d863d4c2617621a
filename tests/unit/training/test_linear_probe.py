"""The probe's solver against independent formulas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.training.classifiers.folds import Fold
from pipeline.training.classifiers.heads import facts
from pipeline.training.classifiers.linear_probe import (
    UNSEEN_BIAS,
    Head,
    Probe,
    Scaler,
    choose_penalty,
    cross_entropy,
    path,
)
from pipeline.training.task import Labelled


def blobs(count: int, classes: int, spread: float = 1.0, seed: int = 0) -> Labelled:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(1).normal(0, 2, (classes, 6))
    features = centres[labels] + random.normal(0, spread, (count, 6))
    return Labelled((5 + 3 * features).astype(np.float32), labels)


def objective(head: Head, data: Labelled, penalty: float) -> float:
    """Mean cross-entropy + penalty / 2 · ‖W‖², with W on standardised features."""
    weight = head.weight * Scaler.of(data.features).std
    return cross_entropy(head.logits(data.features), data.labels) + penalty / 2 * float((weight**2).sum())


@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_finds_the_minimum_of_its_objective(penalty: float) -> None:
    """scipy, minimising the written formula from zero, finds no lower value: the penalty means what it says."""
    from scipy.optimize import minimize

    data = blobs(60, 3)
    scaled = Scaler.of(data.features)(data.features)

    def value(flat: np.ndarray) -> float:
        weight, bias = flat[:18].reshape(3, 6), flat[18:]
        return cross_entropy(scaled @ weight.T + bias, data.labels) + penalty / 2 * (weight**2).sum()

    best = minimize(value, np.zeros(21), method="BFGS", options={"gtol": 1e-7}).fun
    assert pytest.approx(best, abs=1e-4) == objective(next(path(data, [penalty], 3)), data, penalty)


def test_two_classes_get_two_rows() -> None:
    """sklearn keeps one row for two classes; the head has one per class and answers alike."""
    data = blobs(40, 2)
    head = next(path(data, [0.1], 2))
    assert head.weight.shape == (2, 6)
    assert (head.logits(data.features).argmax(axis=1) == data.labels).mean() > 0.9


def test_a_class_without_images_is_never_answered() -> None:
    """The head still has its row, with a bias that loses everywhere."""
    data = blobs(40, 3)
    head = next(path(Labelled(data.features, data.labels * 2), [0.1], 6))
    assert {0, 2, 4} == set(head.logits(data.features).argmax(axis=1))
    assert head.bias[[1, 3, 5]].tolist() == [UNSEEN_BIAS] * 3


def test_constant_features_do_no_harm() -> None:
    """A feature that never varies gets no weight and no division by zero."""
    data = blobs(30, 3)
    features = np.concatenate([data.features, np.full((30, 1), 7, np.float32)], axis=1)
    head = next(path(Labelled(features, data.labels), [0.1], 3))
    assert bool(np.isfinite(head.weight).all())
    assert pytest.approx(0, abs=1e-6) == np.abs(head.weight[:, -1]).max()


def test_noisy_labels_ask_for_a_stronger_penalty() -> None:
    """What validation is for: pure noise chooses a strong penalty, clean classes a weak one."""
    penalties = np.geomspace(1e3, 1e-4, 15).tolist()
    clean, noise = blobs(90, 3, spread=0.3), blobs(90, 3, spread=30)
    chosen = [
        choose_penalty([(data, blobs(60, 3, spread, seed=2))], penalties, 3)[0]
        for data, spread in ((clean, 0.3), (noise, 30))
    ]
    assert chosen[0] < chosen[1]


def test_a_penalty_at_the_end_of_the_path_is_told() -> None:
    """A note and no failure: the best penalty may lie beyond what was tried."""
    head = Head(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    inside, at_end = (Probe(head, penalty, 0.98, "validation split", [10, 1, 0.1]) for penalty in (1, 0.1))
    assert inside.is_inside
    assert not at_end.is_inside
    task = SimpleNamespace(holds_out=True)
    assert [
        "The probe's penalty 0.1 was chosen from 3 by cross-entropy (validation split, 98.0% right); "
        "it ends the path, so a better one may lie beyond."
    ] == facts(task, at_end)["sentences"]


def test_cross_entropy_is_the_formula() -> None:
    """Two rows by hand: log(1 + e^-1) and log(2)."""
    logits = np.array([[1.0, 0.0], [3.0, 3.0]])
    assert pytest.approx((np.log(1 + np.exp(-1)) + np.log(2)) / 2) == cross_entropy(logits, np.array([0, 1]))


def test_selection_is_by_cross_validation_where_validation_is_tiny(toy_domains: Any) -> None:
    """Fewer than three validation images of a class: k folds over train and val, and the record says so."""
    from pipeline.evaluation.domains import DomainReport
    from pipeline.models.backbones import backbone
    from pipeline.models.checkpoints import random_weights
    from pipeline.stages import features, train

    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    given = {"backbone": start, "source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    tables = features.run(features.Params(), toy_domains.context(), **given).outputs
    given |= {"label_space": toy_domains.labels, "domains": DomainReport()}
    result = train.run(train.Params(strategy="probe"), toy_domains.context(), **given, **tables)
    record = result.outputs["training"]
    assert record.selection == "5-fold cross-validation of the probe"
    assert record.val_accuracy is None
    assert record.cv_accuracy is not None
    assert "by 5-fold cross-validation" in result.line


def test_an_image_of_a_class_that_was_not_fitted_has_no_say() -> None:
    """It is a miss under every penalty, so that it cannot ask for a strong one, and only the accuracy knows of it."""
    penalties = np.geomspace(1e3, 1e-4, 15).tolist()
    fit, held_out = blobs(90, 3, 0.3), blobs(60, 3, 0.3, seed=2)
    among = held_out.labels != 2
    known = Labelled(fit.features[fit.labels != 2], fit.labels[fit.labels != 2])
    alone = choose_penalty([(known, Labelled(held_out.features[among], held_out.labels[among]))], penalties, 3)
    with_stranger = choose_penalty([(known, held_out)], penalties, 3)
    assert alone[0] == with_stranger[0]
    assert pytest.approx(alone[1] * 40 / 60) == with_stranger[1]


def test_weights_of_held_out_images_go_with_their_images() -> None:
    """Where some of them have no say, the others keep their own weights."""
    penalties = np.geomspace(1e3, 1e-4, 15).tolist()
    fit, held_out = blobs(90, 3, 2.0), blobs(60, 3, 2.0, seed=2)
    among = held_out.labels != 2
    known = Labelled(fit.features[fit.labels != 2], fit.labels[fit.labels != 2])
    weights = np.random.default_rng(0).uniform(0.1, 2, 60)
    alone = Fold(known, Labelled(held_out.features[among], held_out.labels[among]), None, weights[among])
    chosen = [choose_penalty([fold], penalties, 3)[0] for fold in (alone, Fold(known, held_out, None, weights))]
    assert chosen[0] == chosen[1]
