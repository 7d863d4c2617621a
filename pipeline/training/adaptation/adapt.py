"""The common end of the strategies that train on labelled images and on the target's unlabelled ones at once.

Each step minimises, over labelled images (x, y) and target images x′:

    CE(network(x), y) + trade_off · alignment(features, logits of x; features, logits of x′)

The labelled images are the source's; where the target has labels too, these come along with a cross-entropy of their
own; where there is no source, they are all there is, and the same loss is semi-supervised learning.

No epoch is chosen without target labels: the last one stays, and guards that need none say whether it may be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.device import SMALL_IMAGE_PX, choose
from pipeline.models.network import Network
from pipeline.training.adaptation import guards
from pipeline.training.adaptation.own_statistics import features_of
from pipeline.training.adaptation.params import AdaptationParams, TwoDomainParams
from pipeline.training.batch_norm import momentum_of, reestimate
from pipeline.training.classifiers import folds, heads
from pipeline.training.classifiers.linear_probe import Probe, Training, solve_on
from pipeline.training.engine import BATCH_NORM, DIVERGED, Outcome, fit, score
from pipeline.training.objectives import Batch, Images, Judgement, Objective, Stream, View
from pipeline.training.phases import Phase, Rates, discriminative
from pipeline.training.record import Epoch
from pipeline.training.task import Fitted, Task

STEPS, LARGE_STEPS = 1200, 300
"""About as many are taken where no number of epochs is asked for; the second for images over 64 px, of which a step
takes a hundred times longer, and whose backbones come with features that need less change."""

EPOCHS = (3, 50)
"""Fewest and most epochs that are taken for it: guards look at halves of a run, and tiny sets need no 1,200 steps."""

BATCH_SIZE = 256
"""Images per forward pass where nothing is learnt."""

PHASE = "adapt"

STATISTICS_IMAGES = 2000
"""Source images that its BatchNorm statistics are estimated from, at most, to measure what is left of the source."""


class Side(NamedTuple):
    """What the network makes of one domain's images."""

    features: Tensor
    """[B, feature_dim]"""
    logits: Tensor
    """[B, classes]"""

    def in_float32(self) -> Side:
        """Covariances and kernels need more digits than mixed precision leaves."""
        return Side(self.features.float(), self.logits.float())


Alignment = Callable[[Side, Side, float], dict[str, Tensor]]
"""From the labelled images, the target's and the share of training done to scalars by name: ``alignment`` is minimised,
the others are drawn as curves. Where it is a module, its parameters are trained along."""

HistoryGuards = Callable[[Sequence[Epoch]], dict[str, bool]]
"""Guards that an alignment reads off its own curves."""


def _no_guards(history: Sequence[Epoch]) -> dict[str, bool]:
    return {}


class Adaptation(Objective):
    """Cross-entropy of labelled images, and ``trade_off`` times an alignment of the target's with them."""

    def __init__(
        self, task: Task, params: AdaptationParams, alignment: Alignment, views: tuple[View, ...] = ("random",)
    ) -> None:
        super().__init__()
        self.task, self.alignment, self.trade_off = task, alignment, params.trade_off
        self.learning_rate = params.learning_rate
        self.own_statistics = params.batch_norm == "per_domain"
        self.streams = {"target": Stream(task.target_images, views)}
        if has_source(task) and task.labels_from == "target":
            self.streams["labelled_target"] = Stream(task.fit_images)
        self.before: float | None = None
        """Accuracy on the source's held-out images before adaptation, where there are any."""

    def remember(self, network: Network, device: torch.device) -> None:
        """Measure what ``network`` knows of the source before it is adapted."""
        if has_source(self.task) and self.task.source_is_held_out:
            self.before = score(network.to(device), self.task.source_val_images, device, batch_size=BATCH_SIZE).accuracy

    def accuracy_on_source(self, network: Network, device: torch.device) -> float:
        """On its held-out images, under its own BatchNorm statistics if each domain has its own.

        The network, which is on ``device``, keeps the statistics it has and is left in eval mode.
        """
        kept = {name: value.clone() for name, value in network.named_buffers()}
        if self.own_statistics:
            reestimate(network, self.task.source_images, device, most=STATISTICS_IMAGES)
        accuracy = score(network, self.task.source_val_images, device, batch_size=BATCH_SIZE).accuracy
        network.load_state_dict(kept, strict=False)
        return accuracy

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        with statistics_stand_still(network, wanted=has_source(self.task)):
            labelled = side(network, batch.images)
        target, terms = self._target(network, batch)
        terms |= {"labelled_loss": functional.cross_entropy(labelled.logits, batch.labels)}
        supervised = torch.stack(list(terms.values())).sum()
        with torch.autocast(batch.images.device.type, enabled=False):
            terms |= self.alignment(labelled.in_float32(), target.in_float32(), batch.progress)
        return {"loss": supervised + self.trade_off * terms["alignment"], **terms}

    def _target(self, network: Network, batch: Batch) -> tuple[Side, dict[str, Tensor]]:
        """All target images in one pass, so that they share one batch's statistics; labelled ones at its end."""
        images = torch.cat(batch.streams["target"].views)
        known = batch.streams.get("labelled_target")
        if known is None:
            return side(network, images), {}
        both, count = side(network, torch.cat([images, known.images])), len(images)
        unlabelled = Side(both.features[:count], both.logits[:count])
        return unlabelled, {"target_loss": functional.cross_entropy(both.logits[count:], known.labels)}

    def judge(self, network: Network, device: torch.device) -> Judgement:
        if self.before is None:
            return Judgement()
        accuracy = self.accuracy_on_source(network, device)
        return Judgement({"source_retention": guards.source_retention(accuracy, self.before)})


def side(network: Network, images: Tensor) -> Side:
    """Pass normalised images [B, 3, S, S] through both parts of the network."""
    features = network.backbone(images)
    return Side(features, network.head(features))


@contextmanager
def statistics_stand_still(network: Network, *, wanted: bool = True) -> Iterator[None]:
    """In the block, batches are normalised by their own statistics but leave no trace in the running ones.

    So these stay the target's while the source's images pass.
    """
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORM) and wanted]
    with momentum_of(norms, 0.0):
        yield


def has_source(task: Task) -> bool:
    """Are there labelled source images of the target's classes to train on?"""
    return len(task.source.split("train")) > 0


def starting_head(task: Task, network: Network) -> Probe:
    """Make a probe's solution the head that ``network`` starts from; fitted to the labelled images of both domains.

    A few target labels alone would leave the head far from what the source's many images then ask for. The penalty is
    chosen on the target's held-out images, which no head has seen.
    """
    if task.labels_from != "target" or not has_source(task):
        return heads.starting_head(task, network)
    parts, selection = folds.of_task(task)
    both = [fold._replace(fit=folds.joined(task.source_set, fold.fit)) for fold in parts]
    everything = folds.joined(task.source_set, task.train_set if task.holds_out else task.all_set)
    probe = solve_on(Training(both, everything, None, selection), heads.penalty_path(), len(task.classes))
    heads.set_linear(network, probe.head)
    return probe


def adapt(
    task: Task,
    params: AdaptationParams,
    alignment: Alignment,
    told: str,
    *,
    views: tuple[View, ...] = ("random",),
    more_guards: HistoryGuards = _no_guards,
) -> Fitted:
    """Train backbone and head on both domains, and measure what can be measured without target labels.

    ``told`` is a sentence for the record on what ``alignment`` does; ``more_guards`` are its own. Each target image
    comes in all ``views``, which follow each other in the target's side: [views · B, …].
    """
    network, device = task.pretrained_network(), choose(task.context.device)
    probe = starting_head(task, network)
    objective = Adaptation(task, params, alignment, views)
    objective.remember(network, device)
    outcome = _train(task, network, params, objective)
    network.to(device)
    if objective.own_statistics and outcome.kept.get(PHASE) != 0:
        reestimate(network, task.target_images, device)
    measured = _measure(task, network, objective, outcome, device)
    facts = heads.facts(task, probe, told, _length(outcome, params), *measured.sentences)
    record = task.record(
        params,
        history=outcome.history,
        groups=outcome.groups,
        guards={**measured.guards, **more_guards(outcome.history)},
        val_accuracy=measured.val_accuracy,
        **facts,
    )
    return Fitted(network.to("cpu"), record)


def _train(task: Task, network: Network, params: AdaptationParams, objective: Adaptation) -> Outcome:
    """Without target labels the last epoch stays, and validation images of the source are left to the guards."""
    labelled = task.source_images if has_source(task) else task.fit_images
    val = task.val_images_beside_source if task.labels_from == "target" else None
    phase = Phase(
        name=PHASE,
        epochs=params.epochs or epochs_for(task, labelled),
        learning_rates=rates(network, params),
        weight_decay=params.weight_decay,
        batch_norm="train" if objective.own_statistics else "eval",
        keep="last" if val is None else "best",
    )
    return fit(network, [phase], labelled, val, task.options, task.context, objective=objective, name=params.name)


def epochs_for(task: Task, images: Images) -> int:
    """As many epochs over ``images`` as make about :data:`STEPS` steps, or :data:`LARGE_STEPS`."""
    wanted = STEPS if task.backbone.preprocessing.size_px <= SMALL_IMAGE_PX else LARGE_STEPS
    steps = max(math.ceil(len(images) / task.options.batch_size), task.options.min_steps_per_epoch)
    fewest, most = EPOCHS
    return min(most, max(fewest, round(wanted / steps)))


def rates(network: Network, params: TwoDomainParams) -> Rates:
    """One rate for the head, one for all of the backbone."""
    small = network.row.home == "graftline"
    factor = params.backbone_factor or (1.0 if small else 0.1)
    return discriminative(tuple(network.row.blocks), head=params.learning_rate, last=params.learning_rate * factor)


class _Measured(NamedTuple):
    guards: dict[str, bool]
    sentences: list[str]
    val_accuracy: float | None


def _measure(task: Task, network: Network, objective: Adaptation, outcome: Outcome, device: torch.device) -> _Measured:
    """Class balance, source retention and the labelled images' loss, whose guard replaces the engine's on the sum of
    all losses: an alignment's share of that may grow on purpose.
    """
    held = {name: value for name, value in outcome.guards.items() if name != "training_loss_did_not_diverge"}
    losses = [entry.terms["labelled_loss"] for entry in outcome.history][: outcome.kept.get(PHASE)]
    balance, on_source = balance_of(task, network, device), None
    held |= {"labelled_loss_did_not_rise": guards.did_not_rise(losses, DIVERGED), "balanced_predictions": balance.holds}
    sentences = [balance.sentence(task.classes)]
    if (before := objective.before) is not None:
        on_source = objective.accuracy_on_source(network, device)
        told = f"On the source's held-out images {on_source:.1%} are right, {before:.1%} were before"
        if guards.is_known(before, task.source_val_set.labels):
            held["source_retention"] = guards.source_is_retained(on_source, before)
            sentences.append(f"{told}.")
        else:
            sentences.append(f"{told}: too near to chance to tell whether anything was forgotten.")
    elif has_source(task):
        sentences.append("What is left of the source was not measured: none of its images are held out.")
    return _Measured(held, sentences, _held_out_accuracy(task, network, on_source, device))


def _held_out_accuracy(task: Task, network: Network, on_source: float | None, device: torch.device) -> float | None:
    """On labelled images that nothing was fitted to: the target's, or else the source's under its own statistics."""
    if task.labels_from == "source" or task.val_images is None:
        return on_source if task.holds_out else None
    return score(network, task.val_images, device, batch_size=BATCH_SIZE).accuracy


def balance_of(task: Task, network: Network, device: torch.device) -> guards.Balance:
    """How often the network, which is on ``device``, answers each class over the target's training images."""
    network.eval()
    logits = network.head(features_of(network, task.target_images, device)).detach().float().cpu().numpy()
    known = task.all_set.labels if task.labels_from == "target" else task.source_set.labels
    return guards.class_balance(logits, guards.expected_prior(known, len(task.classes)))


def _length(outcome: Outcome, params: AdaptationParams) -> str:
    """What became of the epochs, as a sentence."""
    count, kept = len(outcome.history), outcome.kept.get(PHASE)
    whose = "each domain under its own BatchNorm statistics" if params.batch_norm == "per_domain" else "BatchNorm fixed"
    ran = f"Training ran {count} epoch{'s' * (count != 1)} with {whose}"
    if kept is None:
        return f"{ran}; the last one was kept, as no target label was there to choose by."
    if kept == 0:
        return f"{ran}; none had a lower validation loss than the network it began with, so that was kept."
    return f"{ran}; epoch {kept} was kept, for the lowest validation loss."
