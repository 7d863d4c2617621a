"""Phases as data: a gradient strategy is a list of these, and the engine is the only loop that runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Rates = dict[str, float | None]
"""Peak learning rate of each parameter group; None freezes it."""


class Phase(NamedTuple):
    """Some epochs with one set of learning rates.

    ``learning_rates`` has one entry per parameter group of the network: each block of the backbone by its name, and
    ``head``. ``None`` freezes the group: no gradient, and its BatchNorm statistics stand still. Every group must be
    named; the engine refuses a phase that leaves one out.
    """

    name: str
    epochs: int
    learning_rates: Rates
    weight_decay: float = 0.0
    warmup: float = 0.1
    """Share of the phase's steps over which the rates rise from zero; after it they fall by a cosine."""
    batch_norm: Literal["eval", "train"] = "eval"
    """``eval`` keeps the statistics of trainable groups as pretrained (small sets lose by moving them); ``train``
    updates them."""
    label_smoothing: float = 0.0
    patience: int | None = None
    """Stop after this many epochs without a better validation loss; None runs all epochs."""
    keep: Literal["best", "last"] = "best"
    """``best``: end on the weights with the lowest validation loss, those the phase began with included, if there is
    validation data. ``last``: on the last epoch's that no guard refused; validation images of the source say nothing
    about the best epoch for the target."""
    only_batch_norm: bool = False
    """Train nothing but the scales and shifts of BatchNorm in the groups that have a rate."""
    l2_sp: float = 0.0
    """α of L²-SP (Li et al., 2018): α/2 · ‖w − w⁰‖² over the backbone's trainable weights holds them near those the
    phase began with."""


def discriminative(blocks: Sequence[str], *, head: float, last: float, decay: float = 1.0, frozen: int = 0) -> Rates:
    """Rates that fall from the head towards the input.

    The last block gets ``last``, each block before it ``decay`` times its successor's; the first ``frozen`` blocks
    get None.

    >>> discriminative(["stem", "layer1", "layer2"], head=1.0, last=0.5, decay=0.5, frozen=1)
    {'stem': None, 'layer1': 0.25, 'layer2': 0.5, 'head': 1.0}
    """
    rates: Rates = {}
    for position, block in enumerate(blocks):
        rates[block] = None if position < frozen else last * decay ** (len(blocks) - 1 - position)
    return {**rates, "head": head}
