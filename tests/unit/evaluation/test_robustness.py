"""Attacks keep to their ball, FGSM is the closed form where there is one, and shortcuts change no figure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.evaluation import robustness

CLASSES, SIDE_PX = 3, 6


@pytest.fixture
def linear():
    """A linear model on grey levels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE_PX**2, CLASSES)).requires_grad_(False)
    return lambda squares: model(squares / 255)


@pytest.fixture
def squares():
    """24 images; some colours lie at the ends of the range."""
    torch.manual_seed(1)
    return (torch.rand(24, 3, SIDE_PX, SIDE_PX) * 320 - 32).clamp(0, 255)


def labels_of(logits, squares):
    return logits(squares).argmax(1)


def starts(count):
    return robustness.starts([f"image{number}" for number in range(count)], SIDE_PX, 0)


def test_fgsm_on_a_linear_model_is_the_closed_form(squares):
    """Two classes: the loss's gradient has the sign of the other class's weights less the right one's, everywhere."""
    torch.manual_seed(0)
    weights = torch.randn(2, 3, SIDE_PX, SIDE_PX)

    def logits(images):
        return torch.einsum("bchw,kchw->bk", images / 255, weights)

    labels = labels_of(logits, squares)
    trial = robustness.attack(logits, squares, labels, starts(24))[0]
    away = torch.stack([(weights[1 - label] - weights[label]).sign() for label in labels])
    expected = logits((squares + 2 * away).clamp(0, 255)).argmax(1) == labels
    assert ("fgsm", 2) == (trial.attack, trial.epsilon)
    assert expected.tolist() == trial.standing.tolist()
    assert 0 < int(trial.standing.sum()) < 24


@pytest.mark.parametrize("epsilon", robustness.EPSILONS)
def test_pgd_never_leaves_the_ball_nor_the_range_of_colours(linear, squares, epsilon):
    labels = labels_of(linear, squares)
    moved = robustness.pgd(linear, squares, labels, starts(24), epsilon=epsilon, steps=10).squares
    assert float((moved - squares).abs().max()) <= epsilon + 1e-4
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 255


def test_pgd_breaks_what_fgsm_breaks_on_a_linear_model(linear, squares):
    """There the sign of the gradient leads to the worst corner; PGD gets there from any start."""
    labels = labels_of(linear, squares)
    directions = robustness._gradient(linear, squares, labels).direction
    broken = linear(robustness.fgsm(squares, directions, 2)).argmax(1) != labels
    ended = robustness.pgd(linear, squares, labels, starts(24), epsilon=2, steps=20)
    assert not (broken & ended.right).any()


def test_attacks_are_nested(linear, squares):
    """PGD stands within FGSM, and a larger ball within a smaller one; a wrong answer is never attacked."""
    labels = labels_of(linear, squares)
    labels[:5] = (labels[:5] + 1) % CLASSES
    fgsm_2, pgd_2, fgsm_8, pgd_8 = robustness.attack(linear, squares, labels, starts(24))
    assert not fgsm_2.tried[:5].any()
    assert fgsm_2.tried[5:].all()
    for inner, outer in ((pgd_2, fgsm_2), (fgsm_8, fgsm_2), (pgd_8, pgd_2), (pgd_8, fgsm_8)):
        assert not (inner.standing & ~outer.standing).any()
    assert torch.equal(pgd_2.tried, fgsm_2.standing)
    assert torch.equal(pgd_8.tried, pgd_2.standing & fgsm_8.standing)


def test_nothing_to_attack_is_no_error(linear, squares):
    """All answers wrong: no attack is tried and none stands."""
    labels = (labels_of(linear, squares) + 1) % CLASSES
    trials = robustness.attack(linear, squares, labels, starts(24))
    assert [0, 0, 0, 0] == [int(trial.tried.sum()) for trial in trials]


def test_equal_seeds_give_equal_attacks(linear, squares):
    labels = labels_of(linear, squares)
    first, again = (robustness.attack(linear, squares, labels, starts(24)) for _ in range(2))
    assert [one.standing.tolist() for one in first] == [one.standing.tolist() for one in again]


def test_an_images_start_depends_on_its_id_and_the_seed_alone():
    pair = robustness.starts(["a", "b"], 4, 0)
    assert torch.equal(pair[1], robustness.starts(["b"], 4, 0)[0])
    assert not torch.equal(pair[1], robustness.starts(["b"], 4, 1)[0])
    assert -1 <= float(pair.min()) < float(pair.max()) <= 1


def test_steps_depend_on_the_size():
    assert [40, 40, 10] == [robustness.steps_for(side_px) for side_px in (32, 64, 224)]
