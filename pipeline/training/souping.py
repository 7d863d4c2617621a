"""Greedy weight averaging of networks that were fine-tuned from one start (Wortsman et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from pipeline.core.device import choose
from pipeline.core.errors import DataError
from pipeline.models.network import Network, State, contiguous
from pipeline.training.batch_norm import reestimate
from pipeline.training.engine import Outcome, Score, fit, score_on
from pipeline.training.objectives import Images
from pipeline.training.phases import Phase
from pipeline.training.task import Task


class Ingredient(NamedTuple):
    """One fine-tuned network."""

    number: int
    """Counted from 1, in the order of training."""
    learning_rate: float
    """Of its head and last block."""
    state: State
    outcome: Outcome
    score: Score
    """On the validation split, as is every score here."""


class Soup(NamedTuple):
    """What was chosen: one ingredient, or the average of several."""

    members: tuple[int, ...]
    """Numbers of the ingredients in it, the best one first."""
    score: Score
    best: Ingredient
    """The best single ingredient."""


def cook(task: Task, start: Network, phases: Sequence[Phase]) -> list[Ingredient]:
    """Fine-tune ``start`` once per phase, each time from the same weights; ``start`` ends as it began.

    Raises:
        DataError: the validation split is too small to choose by.
    """
    val = _val_images(task)
    begin = contiguous(start.state_dict())
    ingredients = []
    for number, phase in enumerate(phases, 1):
        start.load_state_dict(begin)
        outcome = fit(start, [phase], task.fit_images, val, task.options, task.context, name=phase.name)
        rate = max(rate for rate in phase.learning_rates.values() if rate is not None)
        measured = score_on(task.context.device, start, val)
        ingredients.append(Ingredient(number, rate, contiguous(start.state_dict()), outcome, measured))
    start.load_state_dict(begin)
    return ingredients


def greedy(task: Task, network: Network, ingredients: Sequence[Ingredient], *, reestimates: bool) -> Soup:
    """Fill ``network`` with the average that validation likes best, found by adding one ingredient after the other.

    ``reestimates`` sets BatchNorm statistics anew for each average; without it, they are averaged as the weights are.
    """
    val = _val_images(task)
    ordered = sorted(ingredients, key=lambda one: _merit(one.score), reverse=True)
    members, reached = ordered[:1], ordered[0].score
    network.load_state_dict(ordered[0].state)
    kept = ordered[0].state
    for candidate in ordered[1:]:
        network.load_state_dict(average([one.state for one in [*members, candidate]]))
        if reestimates:
            _reestimate(task, network)
        measured = score_on(task.context.device, network, val)
        if _merit(measured) >= _merit(reached):
            members, reached, kept = [*members, candidate], measured, contiguous(network.state_dict())
    network.load_state_dict(kept)
    network.eval()
    return Soup(tuple(one.number for one in members), reached, ordered[0])


def average(states: Sequence[State]) -> State:
    """The mean of every weight and statistic; counters are taken from the first."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


def guards(ingredients: Sequence[Ingredient]) -> dict[str, bool]:
    """A promise holds where it held for every ingredient."""
    names = dict.fromkeys(name for one in ingredients for name in one.outcome.guards)
    return {name: all(one.outcome.guards.get(name, True) for one in ingredients) for name in names}


def told(ingredients: Sequence[Ingredient], soup: Soup) -> list[str]:
    """What was tried and what was kept, as sentences."""
    rates = [one.learning_rate for one in ingredients]
    best = soup.best
    tried = (
        f"{len(ingredients)} networks were fine-tuned from there, at rates from {min(rates):.1e} to {max(rates):.1e}; "
        f"the best single one is number {best.number} ({best.score.accuracy:.1%} right, loss {best.score.loss:.3f})."
    )
    if len(soup.members) == 1:
        return [tried, "No average with another did better on the validation split, so it was kept alone."]
    names = f"{', '.join(map(str, soup.members[:-1]))} and {soup.members[-1]}"
    return [
        tried,
        f"The average of numbers {names} does better ({soup.score.accuracy:.1%} right, loss {soup.score.loss:.3f}) and "
        "was kept.",
    ]


def _merit(found: Score) -> tuple[float, float]:
    """Accuracy first; among equals, the lower loss."""
    return found.accuracy, -found.loss


def _val_images(task: Task) -> Images:
    if task.val_images is None:
        raise DataError(
            expected="a validation split with three images of each class to choose a soup by",
            found=f"{len(task.val):,} validation images over {len(task.classes)} classes",
            where="train.strategy.name in params.yaml",
            remedy="Label more images, raise ingest.val_share, or choose lp_ft.",
        )
    return task.val_images


def _reestimate(task: Task, network: Network) -> None:
    device = choose(task.context.device)
    reestimate(network.to(device), task.fit_images, device)
    network.to("cpu")
