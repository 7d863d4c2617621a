"""Model soup: fine-tune several times from one start, then average the weights of those that go well together.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time" (ICML 2022), their greedy recipe; BatchNorm is estimated anew after averaging, without which soups of
convolutional networks lose (https://arxiv.org/abs/2301.10092).

Each ingredient i minimises, over images x [B, 3, S, S] and labels y [B] and from the probe's head,
    mean_j( −log softmax(head(backbone(x_j)))[y_j] )
at a rate and with random draws of its own, giving weights θ_i. In the order of their validation accuracy (ties: loss),
the soup θ = mean of its members' θ_i takes each one in whose average does no worse on validation.

Helps: a little nearly always, more under shift; costs nothing when the network is used.
Hurts: nothing but time: where no average does better on validation, the best single ingredient is the result.
Cost: ``ingredients`` times lp_ft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.training.fine_tuning_params import FineTuneParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "several fine-tuned networks, averaged where that does better"
NEEDS = ("labels", "features", "pixels", "validation")


class Params(FineTuneParams):
    """How many ingredients, and how each is trained."""

    name: Literal["soup"] = "soup"
    ingredients: int = Field(5, ge=2, le=50)
    epochs: int = Field(8, gt=0)
    """Of each ingredient; a small set is passed over several times per epoch."""
    learning_rate: float = Field(3e-4, gt=0)
    """Of the head and the last block of the first ingredient."""
    rate_factor: float = Field(3.0, ge=1)
    """The second ingredient's rate is this times as high, the third's as low, the fourth's the first's, and so on."""
    batch_norm: Literal["eval", "train"] = "train"
    """``train``: statistics follow the images, and are estimated anew for each average. ``eval``: all ingredients and
    their average keep the pretrained ones."""


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Every ingredient, then the greedy soup.

    Raises:
        DataError: the validation split is too small to choose by.
    """
    from pipeline.training import souping
    from pipeline.training.classifiers import heads
    from pipeline.training.task import Fitted

    network = task.pretrained_network()
    probe = heads.starting_head(task, network)
    rates = [_rate(params, number) for number in range(params.ingredients)]
    blocks = tuple(network.row.blocks)
    phases = [params.phase(f"ingredient_{number}", blocks, rate=rate) for number, rate in enumerate(rates, 1)]
    ingredients = souping.cook(task, network, phases)
    soup = souping.greedy(task, network, ingredients, reestimates=params.batch_norm == "train")
    record = task.record(
        params,
        history=[epoch for one in ingredients for epoch in one.outcome.history],
        groups=[group for one in ingredients for group in one.outcome.groups],
        guards=souping.guards(ingredients),
        val_accuracy=soup.score.accuracy,
        selection="validation split",
        chosen={"penalty": probe.penalty, "members": len(soup.members)},
        sentences=[*heads.facts(task, probe)["sentences"], *souping.told(ingredients, soup)],
    )
    return Fitted(network, record)


def _rate(params: Params, number: int) -> float:
    """The first ingredient's is the one that was asked for, then one above and one below, in turn."""
    return params.learning_rate * params.rate_factor ** (0, 1, -1)[number % 3]
