"""Losses between two domains against direct formulas, and adversaries against separable toys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy as scipy_entropy

from pipeline.training.adaptation.adapt import Side
from pipeline.training.adaptation.adversary import Adversary, ConditionalAdversary, fooled
from pipeline.training.adaptation.alignment import (
    Discriminator,
    Joined,
    coral_loss,
    domain_accuracy,
    domain_loss,
    entropy,
    mcc_loss,
    mk_mmd_loss,
    reversal_strength,
    reversed_gradient,
)
from pipeline.training.record import Epoch


def rows(count: int, width: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(shift, 1, (count, width)).astype(np.float32))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_entropy_is_scipys() -> None:
    """In nats, one per row."""
    probabilities = softmax(rows(5, 4).numpy())
    np.testing.assert_allclose(scipy_entropy(probabilities, axis=1), entropy(torch.from_numpy(probabilities)), 1e-5)


def test_mcc_follows_the_papers_formula() -> None:
    """Written out with loops over classes and images."""
    logits = 3 * rows(6, 3)
    p = softmax(logits.numpy() / 2.5)
    weights = 1 + np.exp(-scipy_entropy(p, axis=1))
    weights = 6 * weights / weights.sum()
    confusion = np.array([[sum(p[i, j] * weights[i] * p[i, k] for i in range(6)) for k in range(3)] for j in range(3)])
    confusion /= confusion.sum(axis=1, keepdims=True)
    expected = (confusion.sum() - np.trace(confusion)) / 3
    assert pytest.approx(expected, rel=1e-4) == mcc_loss(logits, 2.5).item()


def test_coral_follows_the_papers_formula() -> None:
    """‖Cs − Ct‖² / 4D² with numpy's covariance."""
    source, target = rows(8, 5), 2 * rows(6, 5, seed=1)
    difference = np.cov(source.numpy().T) - np.cov(target.numpy().T)
    assert pytest.approx((difference**2).sum() / (4 * 25), rel=1e-4) == coral_loss(source, target).item()


def test_mmd_follows_the_papers_formula() -> None:
    """Five Gaussians about the mean squared distance of all pairs, by scipy's distances."""
    source, target = rows(7, 4), rows(5, 4, seed=1, shift=1.0)
    both = np.concatenate([source, target]).astype(np.float64)
    squares = cdist(both, both, "sqeuclidean")
    kernel = sum(np.exp(-squares / (2 * 2.0**power * squares.mean())) for power in (-3, -2, -1, 0, 1))
    expected = kernel[:7, :7].mean() + kernel[7:, 7:].mean() - 2 * kernel[:7, 7:].mean()
    assert pytest.approx(expected, rel=1e-3) == mk_mmd_loss(source, target).item()


@pytest.mark.parametrize("loss", [coral_loss, mk_mmd_loss])
def test_a_step_down_the_gradient_brings_domains_together(loss) -> None:
    """What the loss sends back to the target's features lowers it."""
    source, target = rows(20, 4), (2 * rows(20, 4, seed=1, shift=1.0)).requires_grad_()
    before = loss(source, target)
    before.backward()
    assert loss(source, target.detach() - 0.1 * target.grad) < before


def test_equal_images_send_finite_gradients_back() -> None:
    """Distances of zero have no slope, and a batch may hold the same image twice."""
    source = torch.ones(3, 4, requires_grad=True)
    mk_mmd_loss(source, torch.ones(2, 4)).backward()
    assert source.grad is not None
    assert bool(source.grad.isfinite().all())


def test_the_gradient_is_turned_round() -> None:
    """Forward nothing changes; backward the sign does, times the strength."""
    values = torch.tensor([1.0, -2.0], requires_grad=True)
    reversed_values = reversed_gradient(values, 0.25)
    (3 * reversed_values).sum().backward()
    assert torch.equal(values, reversed_values)
    assert [-0.75, -0.75] == values.grad.tolist()


def test_the_strength_rises_from_nothing_to_almost_one() -> None:
    """2 / (1 + e^(−10 p)) − 1."""
    assert reversal_strength(0) == 0
    assert pytest.approx(math.tanh(2.5)) == reversal_strength(0.5)
    assert pytest.approx(1, abs=1e-4) == reversal_strength(1)


def test_domain_loss_and_accuracy_of_a_guess_and_of_knowledge() -> None:
    """Logits of zero cost log 2; right and sure ones nothing."""
    zeros, sure = torch.zeros(3), torch.full((3,), 20.0)
    assert pytest.approx(math.log(2)) == domain_loss(zeros, zeros).item()
    assert pytest.approx(0, abs=1e-6) == domain_loss(sure, -sure).item()
    assert (1.0, 0.0, 0.5) == tuple(
        domain_accuracy(*pair).item() for pair in [(sure, -sure), (-sure, sure), (sure, sure)]
    )


def test_weights_say_how_much_an_image_counts() -> None:
    """An image of weight 2 beside one of weight 0 is as good as alone."""
    of_source, of_target = torch.tensor([1.0, -3.0]), torch.tensor([0.5, 0.5])
    weighted = domain_loss(of_source, of_target, torch.tensor([2.0, 0.0]), torch.ones(2))
    assert pytest.approx(domain_loss(of_source[:1], of_target).item()) == weighted.item()


def test_the_discriminator_learns_a_separable_toy() -> None:
    """Two shifted clouds are told apart after some steps."""
    torch.manual_seed(0)
    discriminator = Discriminator(4, hidden=16)
    optimizer = torch.optim.AdamW(discriminator.parameters(), 1e-2)
    both = torch.cat([rows(32, 4), rows(32, 4, seed=1, shift=4.0)])
    for _ in range(30):
        of_source, of_target = discriminator(both).split(32)
        optimizer.zero_grad()
        domain_loss(of_source, of_target).backward()
        optimizer.step()
    assert domain_accuracy(of_source, of_target) == 1


def test_the_network_is_pushed_to_fool_the_discriminator() -> None:
    """A step on features alone, along the gradient that reaches them, makes the discriminator's loss larger."""
    adversary = Adversary(4, seed=0).eval()
    source, target = (rows(16, 4, seed, shift).requires_grad_() for seed, shift in ((0, 0.0), (1, 1.0)))
    answers = torch.zeros(16, 3)

    def loss(of_source: torch.Tensor, of_target: torch.Tensor) -> torch.Tensor:
        return adversary(Side(of_source, answers), Side(of_target, answers), 1.0)["alignment"]

    before = loss(source, target)
    before.backward()
    assert loss(source.detach() - source.grad, target.detach() - target.grad) > before


def test_equal_seeds_make_equal_discriminators_and_leave_the_global_one_alone() -> None:
    """What else draws must not matter."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = Adversary(4, seed=0), Adversary(4, seed=0)
    assert expected == torch.rand(1)
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)


def test_joined_features_and_answers_are_all_products() -> None:
    """As numpy's outer product of each row."""
    features, answers = rows(3, 4), torch.softmax(rows(3, 2), dim=1)
    joined = Joined(4, 2, seed=0)(features, answers)
    expected = np.einsum("bi,bk->bik", features, answers).reshape(3, 8)
    np.testing.assert_allclose(expected, joined, rtol=1e-6)


def test_random_projections_keep_inner_products() -> None:
    """(f · f′)(p · p′), but for the noise of 1,024 draws."""
    features, answers = torch.nn.functional.normalize(rows(2, 512)), torch.softmax(rows(2, 10), dim=1)
    joined = Joined(512, 10, seed=0)
    left = joined(features, answers)
    assert (2, joined.outputs) == tuple(left.shape) == (2, 1024)
    expected = (features @ features.T) * (answers @ answers.T)
    np.testing.assert_allclose(expected, left @ left.T, atol=0.15)


@pytest.mark.parametrize("by_entropy", [True, False])
def test_a_conditional_adversary_does_not_train_the_answers(by_entropy: bool) -> None:
    """Gradients reach features through it, logits not."""
    adversary = ConditionalAdversary(4, 3, seed=0, by_entropy=by_entropy)
    source, target = (Side(rows(8, 4, seed).requires_grad_(), rows(8, 3, seed).requires_grad_()) for seed in (0, 1))
    terms = adversary(source, target, 0.5)
    terms["alignment"].backward()
    assert {"alignment", "domain_accuracy", "reversal_strength"} == set(terms)
    assert source.features.grad.abs().sum() > 0
    assert source.logits.grad is None


def test_a_discriminator_that_is_always_right_breaks_the_guard() -> None:
    """Only the second half of the run counts."""

    def epochs(*accuracies: float) -> list[Epoch]:
        return [
            Epoch(phase="adapt", epoch=1, train_loss=1, learning_rate=1, terms={"domain_accuracy": accuracy})
            for accuracy in accuracies
        ]

    assert {"discriminator_was_fooled": False} == fooled(epochs(0.6, 0.9, 1.0, 1.0))
    assert {"discriminator_was_fooled": True} == fooled(epochs(1.0, 1.0, 1.0, 0.8))


def test_mcc_survives_a_class_that_no_image_is_given() -> None:
    """Its probability is zero to the last digit; neither the loss nor its gradient is then nan."""
    logits = torch.tensor([[0.0, 1.0, -1e4], [2.0, 0.0, -1e4]], requires_grad=True)
    loss = mcc_loss(logits, 2.5)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())
