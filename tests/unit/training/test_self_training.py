"""Self-training: which answers are learnt from, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.training.adaptation.adapt import Side
from pipeline.training.adaptation.alignment import mcc_loss
from pipeline.training.adaptation.self_training import TEMPERATURE, SelfTraining, accepted

THIRDS = torch.full((3,), 1 / 3)


def answers(*rows: tuple[int, float]) -> torch.Tensor:
    """Probabilities [n, 3] with the given answer and confidence; the rest is shared by the others."""
    table = torch.stack([torch.full((3,), (1 - sure) / 2) for _, sure in rows])
    for row, (answer, sure) in enumerate(rows):
        table[row, answer] = sure
    return table


def test_only_sure_answers_are_taken() -> None:
    """The limit itself is sure enough."""
    taken = accepted(answers((0, 0.95), (1, 0.9), (2, 0.89)), 0.9 - 1e-6, torch.ones(3))
    assert [True, True, False] == taken.tolist()


def test_a_class_gives_no_more_than_its_quota_and_its_surest_first() -> None:
    """A third of six images is two: of four sure answers of one class, two; of a class below its quota, all."""
    rows = [(0, 0.91), (0, 0.99), (0, 0.95), (0, 0.97), (1, 0.92), (2, 0.5)]
    assert [False, True, False, True, True, False] == accepted(answers(*rows), 0.9, THIRDS).tolist()


def test_quota_rounds_up() -> None:
    """However small its share, a class may always give one image."""
    assert [True, False] == accepted(answers((0, 0.99), (0, 0.98)), 0.9, torch.full((3,), 0.01)).tolist()


@pytest.fixture
def sides() -> tuple[Side, Side]:
    """Labelled, and weak then strong views of four target images."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(8, 3, generator=generator)
    features = torch.zeros(8, 2)
    return Side(features, logits), Side(features, logits)


def test_starts_with_less_confusion(sides: tuple[Side, Side]) -> None:
    """Up to its share of training, the loss is that of mcc on weak views."""
    objective = SelfTraining(np.full(3, 1 / 3), warm_up=0.5, least_confidence=0.0, quota=3.0)
    found = objective(*sides, 0.49)["alignment"]
    torch.testing.assert_close(mcc_loss(sides[1].logits[:4], TEMPERATURE), found)


def test_strong_views_learn_the_answers_to_weak_ones(sides: tuple[Side, Side]) -> None:
    """Cross-entropy of the strong views' logits, counted where the weak view's answer is sure, over the whole batch."""
    weak, strong = sides[1].logits[:4], sides[1].logits[4:]
    sure = weak.softmax(dim=1).max(dim=1).values
    limit = sure.median().item()
    expected = sum(
        functional.cross_entropy(strong[i : i + 1], weak[i : i + 1].argmax(dim=1)) for i in range(4) if sure[i] >= limit
    )
    objective = SelfTraining(np.full(3, 1 / 3), warm_up=0.0, least_confidence=limit, quota=3.0)
    found = objective(*sides, 0.0)
    torch.testing.assert_close(expected / 4, found["alignment"])
    assert 0.75 == found["accepted"].item()
