"""Laws of the losses that bring domains together, and of the guards, whatever the images were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.training.adaptation.alignment import coral_loss, mcc_loss, mk_mmd_loss, reversed_gradient
from pipeline.training.adaptation.guards import class_balance, expected_prior

VALUES = st.floats(-5, 5, width=32)


@st.composite
def batches(draw, width: int = 3) -> torch.Tensor:
    """Two to ten rows."""
    shape = (draw(st.integers(2, 10)), width)
    return torch.from_numpy(draw(hnp.arrays(np.float32, shape, elements=VALUES)))


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_equal_batches_are_at_no_distance(batch, random):
    """In whatever order their images come."""
    order = random.sample(range(len(batch)), len(batch))
    assert coral_loss(batch, batch[order]).item() == pytest.approx(0, abs=1e-5)
    assert mk_mmd_loss(batch, batch[order]).item() == pytest.approx(0, abs=1e-5)


@given(batches(), batches())
@settings(max_examples=50, deadline=None)
def test_distances_are_symmetric_and_never_negative(source, target):
    for loss in (coral_loss, mk_mmd_loss):
        value = loss(source, target).item()
        assert value >= -1e-5
        assert value == pytest.approx(loss(target, source).item(), rel=1e-3, abs=1e-5)


@given(batches(), VALUES)
@settings(max_examples=50, deadline=None)
def test_coral_does_not_see_a_shift(batch, shift):
    """It compares second moments about the mean."""
    assert coral_loss(batch, batch + shift).item() == pytest.approx(0, abs=1e-4)


@given(batches(), st.permutations(range(3)), st.floats(0.5, 5))
@settings(max_examples=50, deadline=None)
def test_confusion_is_a_share_and_does_not_know_class_names(logits, order, temperature):
    """Between 0 (every answer sure) and 1 − 1/K (every answer a guess)."""
    value = mcc_loss(logits, temperature).item()
    assert -1e-6 <= value <= 2 / 3 + 1e-5
    assert value == pytest.approx(mcc_loss(logits[:, order], temperature).item(), abs=1e-5)


@given(batches(), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_reversal_changes_gradients_only(batch, strength):
    batch.requires_grad_()
    turned = reversed_gradient(batch, strength)
    turned.sum().backward()
    assert torch.equal(batch, turned)
    assert torch.equal(batch.grad, torch.full_like(batch, -strength))


@given(hnp.arrays(np.int64, st.integers(0, 50), elements=st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_answers_like_the_known_labels_are_balanced(labels):
    """Whatever the classes' proportions are."""
    assert class_balance(np.eye(4)[labels], expected_prior(labels, 4)).holds
