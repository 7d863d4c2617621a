"""Greedy soups: which ingredients stay, and what is averaged."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.models.network import Network, build_backbone
from pipeline.training import souping
from pipeline.training.engine import Outcome, Score
from pipeline.training.souping import Ingredient, average, greedy, guards, told


class FakeTask:
    """Has validation images, and nothing else that these tests need."""

    val_images = ("images",)
    context = SimpleNamespace(device="cpu")


def an_ingredient(number: int, weight: float, score: Score, **guards: bool) -> Ingredient:
    state = Network("small_cnn", build_backbone("small_cnn"), 2).state_dict()
    state = {name: torch.full_like(value, weight) for name, value in state.items()}
    return Ingredient(number, 1e-3 * number, state, Outcome([], [], {}, guards, []), score)


@pytest.fixture
def cooked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``cooked(scores)``: a greedy soup where validation depends on the network's weight alone."""

    def run(ingredients: list[Ingredient], scores: dict[float, Score]) -> tuple[Any, float]:
        def measured(device: str, network: Network, val: Any) -> Score:
            return scores[round(network.head.weight[0, 0].item(), 3)]

        monkeypatch.setattr(souping, "score_on", measured)
        network = Network("small_cnn", build_backbone("small_cnn"), 2)
        soup = greedy(FakeTask(), network, ingredients, reestimates=False)
        return soup, round(network.head.weight[0, 0].item(), 3)

    return run


def test_average_is_the_mean_of_weights_and_leaves_counters() -> None:
    """Independent formula; int64 counters are the first one's."""
    states = [{"weight": torch.tensor([value]), "count": torch.tensor(int(value))} for value in (1.0, 2.0, 6.0)]
    found = average(states)
    assert (3.0, 1) == (found["weight"].item(), found["count"].item())


def test_an_ingredient_stays_only_if_validation_does_not_get_worse(cooked: Any) -> None:
    """In order of accuracy: the second harms and is left out, the third helps."""
    ingredients = [
        an_ingredient(1, 0.0, Score(0.5, 0.80)),
        an_ingredient(2, 4.0, Score(0.4, 0.90)),
        an_ingredient(3, 8.0, Score(0.5, 0.85)),
    ]
    scores = {6.0: Score(0.4, 0.89), 2.0: Score(0.3, 0.92)}
    soup, weight = cooked(ingredients, scores)
    assert ((2, 1), 0.92, 2, 2.0) == (soup.members, soup.score.accuracy, soup.best.number, weight)
    assert told(ingredients, soup)[-1] == (
        "The average of numbers 2 and 1 does better (92.0% right, loss 0.300) and was kept."
    )


def test_without_gain_the_best_single_one_is_kept(cooked: Any) -> None:
    """Equal accuracy at a higher loss is worse; the record says that no average was better."""
    ingredients = [an_ingredient(1, 0.0, Score(0.4, 0.9)), an_ingredient(2, 4.0, Score(0.5, 0.9))]
    soup, weight = cooked(ingredients, {2.0: Score(0.41, 0.9)})
    assert ((1,), Score(0.4, 0.9), 0.0) == (soup.members, soup.score, weight)
    assert (
        told(ingredients, soup)[-1]
        == "No average with another did better on the validation split, so it was kept alone."
    )


def test_ties_in_accuracy_go_by_loss(cooked: Any) -> None:
    """The first to be taken is the one with the lower loss."""
    ingredients = [an_ingredient(1, 0.0, Score(0.5, 0.9)), an_ingredient(2, 4.0, Score(0.4, 0.9))]
    soup, _ = cooked(ingredients, {2.0: Score(math.inf, 0.0)})
    assert soup.best.number == 2


def test_a_promise_broken_once_is_broken() -> None:
    """The record's guards are those of all ingredients together."""
    ingredients = [an_ingredient(1, 0.0, Score(0, 1), safe=True), an_ingredient(2, 0.0, Score(0, 1), safe=False)]
    assert {"safe": False} == guards(ingredients)


def test_a_guard_of_one_ingredient_alone_counts() -> None:
    """One that later ingredients broke, and the first was never asked for."""
    ingredients = [
        an_ingredient(1, 0.0, Score(1.0, 0.5), safe=True),
        an_ingredient(2, 0.0, Score(1.0, 0.5), safe=True, still=False),
    ]
    assert {"safe": True, "still": False} == guards(ingredients)
