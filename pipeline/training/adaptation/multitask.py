"""Two tasks over one trunk: what strategy ``multitask`` minimises and the steps it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.device import choose
from pipeline.data.labels import LabelSpace
from pipeline.models.network import HEAD, Network
from pipeline.training.adaptation import guards
from pipeline.training.adaptation.adapt import epochs_for, rates, starting_head, statistics_stand_still
from pipeline.training.adaptation.params import TwoDomainParams
from pipeline.training.batch_norm import reestimate
from pipeline.training.classifiers import heads
from pipeline.training.classifiers.linear_probe import Probe
from pipeline.training.engine import DIVERGED, Outcome, Score, fit, score_on
from pipeline.training.objectives import Batch, Images, Objective, Stream
from pipeline.training.phases import Phase
from pipeline.training.task import Task

Weight = Callable[[float], float]
"""From the share of training done to λ."""

RAMP = (1.0, 3.0)
"""First and last λ of :func:`ramped`."""

PHASE, TUNING = "both_domains", "tune_head"


def fixed(weight: float) -> Weight:
    """λ = ``weight`` throughout."""
    return lambda progress: weight


def ramped(progress: float) -> float:
    """λ rises from 1 to 3 over the first half and stays there: the source shapes the trunk, the target has the last
    word.
    """
    low, high = RAMP
    return low + (high - low) * min(1.0, 2 * progress)


class TwoTasks(Objective):
    """CE(source head(f), y) + λ · CE(head(f′), y′), with f of a batch of the source and f′ of one of the target.

    Without a head of its own the source answers through the network's, which then both domains train.
    """

    def __init__(self, target: Images, weight: Weight, source_head: nn.Linear | None, learning_rate: float) -> None:
        super().__init__()
        self.source_head, self.weight, self.learning_rate = source_head, weight, learning_rate
        self.streams = {"target": Stream(target)}

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        with statistics_stand_still(network):
            features = network.backbone(batch.images)
        answers = network.head(features) if self.source_head is None else self.source_head(features)
        source_loss = functional.cross_entropy(answers, batch.labels)
        target = batch.streams["target"]
        target_loss = functional.cross_entropy(network(target.images), target.labels)
        weight = self.weight(batch.progress)
        return {
            "loss": source_loss + weight * target_loss,
            "source_loss": source_loss,
            "target_loss": target_loss,
            "target_weight": target_loss.new_tensor(weight),
        }


class SourceTask(NamedTuple):
    """The source's training images, and over how many classes they are numbered where these are its own."""

    images: Images
    own_classes: int | None

    def head(self, feature_dim: int) -> nn.Linear | None:
        """A layer of zeros, which sends nothing back to the trunk until it has learnt something; None shares one."""
        if self.own_classes is None:
            return None
        head = nn.Linear(feature_dim, self.own_classes)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head


def source_task(task: Task, *, separate: bool) -> SourceTask:
    """All of the source's classes under numbers of their own, or the mapped ones under the target's."""
    if not separate:
        return SourceTask(task.source_images, None)
    manifest = task.source_all.split("train")
    own = LabelSpace(classes=sorted(set(manifest.frame["label"])))
    images = Images(task.bank(manifest), own.indices(manifest.frame["label"]))
    return SourceTask(images, len(own.classes))


def has_other_classes(task: Task) -> bool:
    """Does the source have classes that the target does not have?"""
    return not set(task.source_all.split("train").frame["label"]) <= set(task.classes)


class Trained(NamedTuple):
    """One network trained on both domains, on the CPU."""

    network: Network
    outcome: Outcome
    probe: Probe
    val: Score | None
    """On the target's validation images, where these are held out."""


def train(task: Task, source: SourceTask, params: TwoDomainParams, weight: Weight, name: str) -> Trained:
    """From the pretrained trunk under a probe's head to the last or, by validation, the best epoch on both domains."""
    network = task.pretrained_network()
    probe = starting_head(task, network) if source.own_classes is None else heads.starting_head(task, network)
    own_statistics = params.batch_norm == "per_domain"
    phase = Phase(
        name=PHASE,
        epochs=params.epochs or epochs_for(task, source.images),
        learning_rates=rates(network, params),
        weight_decay=params.weight_decay,
        batch_norm="train" if own_statistics else "eval",
    )
    objective = TwoTasks(task.fit_images, weight, source.head(network.row.feature_dim), params.learning_rate)
    outcome = fit(
        network,
        [phase],
        source.images,
        task.val_images_beside_source,
        task.options,
        task.context,
        objective=objective,
        name=name,
    )
    if own_statistics and outcome.kept.get(PHASE) != 0:
        device = choose(task.context.device)
        reestimate(network.to(device), task.target_images, device)
        network.to("cpu")
    return Trained(network, outcome, probe, _on_validation(task, network))


def tune(task: Task, trained: Trained, epochs: int, learning_rate: float) -> Trained:
    """Train the head alone on the target's labels, over features and statistics that stay as they are."""
    network = trained.network
    phase = Phase(
        name=TUNING,
        epochs=epochs,
        learning_rates={**dict.fromkeys(network.groups), HEAD: learning_rate},
    )
    tuned = fit(network, [phase], task.fit_images, task.val_images, task.options, task.context, name=TUNING)
    return trained._replace(outcome=_joined(trained.outcome, tuned), val=_on_validation(task, network))


def _joined(first: Outcome, second: Outcome) -> Outcome:
    return Outcome(
        history=first.history + second.history,
        groups=first.groups + second.groups,
        kept=first.kept | second.kept,
        guards={
            **first.guards,
            **{name: held and first.guards.get(name, True) for name, held in second.guards.items()},
        },
        breaches=first.breaches + second.breaches,
    )


def _on_validation(task: Task, network: Network) -> Score | None:
    return None if task.val_images is None else score_on(task.context.device, network, task.val_images)


def guards_of(outcome: Outcome) -> dict[str, bool]:
    """The engine's; the one on the sum of all losses, which λ raises on purpose, gives way to one on the target's."""
    losses = [entry.terms["target_loss"] for entry in outcome.history if entry.phase == PHASE]
    held = {name: value for name, value in outcome.guards.items() if name != "training_loss_did_not_diverge"}
    held["target_loss_did_not_rise"] = guards.did_not_rise(losses[: outcome.kept.get(PHASE)], DIVERGED)
    return held
