"""AdaBN, Tent and SHOT: statistics, losses and pseudo-labels against independent forms; the guard; no source at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pipeline.core import plugins
from pipeline.core.errors import WeightsError
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.data.transforms import plain_view
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights
from pipeline.models.network import Network
from pipeline.stages import features, train
from pipeline.training.adaptation import retention
from pipeline.training.adaptation.own_statistics import starting_network
from pipeline.training.adaptation.source_free import (
    InformationMaximisation,
    centroid_labels,
    marginal_entropy,
    mean_entropy,
)
from pipeline.training.engine import BATCH_NORM
from pipeline.training.objectives import Images
from pipeline.training.task import Fitted, Task, make_task

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


class Ready(NamedTuple):
    """Toy domains with no target label, and weights to start from."""

    domains: Any
    start: BackboneWeights

    def task(self, **options: Any) -> Task:
        context = self.domains.context()
        manifests = {"source_manifest": self.domains.source, "target_manifest": self.domains.target}
        tables = features.run(features.Params(), context, backbone=self.start, **manifests).outputs
        params = train.Params(**{"batch_size": 8, "min_steps_per_epoch": 1, **options})
        return make_task(self.start, self.domains.labels, **manifests, **tables, options=params, context=context)

    def fit(self, name: str, task: Task | None = None, **params: Any) -> Fitted:
        task = task or self.task()
        strategy = plugins.load(train.STRATEGIES, name)
        return strategy.fit(task, strategy.Params(**params), task.context)


def hidden(target: Manifest) -> Manifest:
    """The target without a single label."""
    return Manifest(target.frame.assign(label=None).astype({"label": "str"}))


@pytest.fixture
def ready(toy_domains: Any) -> Ready:
    """A random backbone; the source is labelled, the target is not."""
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    return Ready(toy_domains._replace(target=hidden(toy_domains.target)), start)


@pytest.fixture
def without_source(ready: Ready) -> Ready:
    """A checkpoint with the head of a probe on the source, which is then gone."""
    from pipeline.training.classifiers import heads

    task = ready.task()
    network = task.pretrained_network()
    heads.starting_head(task, network)
    head = dict(network.head.state_dict())
    start = BackboneWeights(ready.start.facts.model_copy(update={"head_classes": 3}), ready.start.state, head)
    return Ready(ready.domains._replace(source=Manifest.empty()), start)


def pixels(images: Images) -> torch.Tensor:
    return plain_view(images.bank.fetch(np.arange(len(images))), images.bank.preprocessing)


def assert_statistics_of(network: Network, images: Images) -> None:
    """Mean and variance of every channel that the first convolution makes of the images."""
    convolution, norm, _ = network.backbone.stem[0]
    with torch.no_grad():
        seen = convolution(pixels(images))
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen.var(dim=(0, 2, 3)))


def parameters(network: Network) -> dict[str, torch.Tensor]:
    return dict(network.backbone.named_parameters())


# -- adabn -------------------------------------------------------------------------------------------------------------


def test_statistics_after_adabn_are_those_of_the_target(ready: Ready) -> None:
    """Computed in one go, over all training images."""
    task = ready.task()
    assert_statistics_of(ready.fit("adabn", task).network, task.target_images)


def test_adabn_changes_no_weight(ready: Ready) -> None:
    """Only statistics move."""
    for name, value in parameters(ready.fit("adabn").network).items():
        assert torch.equal(ready.start.state[name], value), name


def test_the_probe_learns_under_the_sources_own_statistics(ready: Ready) -> None:
    """A backbone that was not trained on the source has the source's statistics when the head is fitted."""
    task = ready.task()
    network, _ = starting_network(task)
    assert_statistics_of(network, task.source_images)


def test_a_backbone_of_the_source_has_its_statistics_already(ready: Ready) -> None:
    """Whether or not there were held-out images to tell how well it learnt."""
    facts = ready.start.facts.model_copy(update={"pretrained_on_source": True})
    task = replace(ready.task(), backbone=replace(ready.start, facts=facts))
    network, _ = starting_network(task)
    assert torch.equal(ready.start.state["stem.0.1.running_mean"], network.backbone.stem[0][1].running_mean)


def test_the_probe_of_target_labels_learns_under_the_targets_statistics(toy_domains: Any, ready: Ready) -> None:
    """Where the target has labels, its own statistics are those that the head is fitted under, and they stay."""
    labelled = Ready(toy_domains, ready.start)
    task = labelled.task()
    network, facts = starting_network(task)
    assert_statistics_of(network, task.target_images)
    assert facts["selection"] == "validation split" if task.holds_out else "cross-validation" in facts["selection"]


# -- tent --------------------------------------------------------------------------------------------------------------


def test_tent_moves_nothing_but_scales_and_shifts(ready: Ready) -> None:
    """Of all parameters, those of BatchNorm differ from the start, and no other."""
    network = ready.fit("tent").network
    norms = {name for name, module in network.backbone.named_modules() if isinstance(module, BATCH_NORM)}
    moved = {name for name, value in parameters(network).items() if not torch.equal(ready.start.state[name], value)}
    assert {f"{name}.{part}" for name in norms for part in ("weight", "bias")} == moved


# -- shot --------------------------------------------------------------------------------------------------------------


def test_shot_leaves_the_head_as_it_was(without_source: Ready) -> None:
    """Bit for bit, while the backbone moves."""
    network = without_source.fit("shot", epochs=1).network
    assert torch.equal(without_source.start.head["weight"], network.head.weight)
    assert torch.equal(without_source.start.head["bias"], network.head.bias)
    assert not torch.equal(without_source.start.state["stem.0.0.weight"], network.backbone.stem[0][0].weight)


def test_entropies_are_those_of_the_formula() -> None:
    """−Σ p log p of each row, averaged; and of the mean row."""
    logits = RANDOM.normal(size=(7, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = p.mean(axis=0)
    assert pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), abs=1e-6) == mean_entropy(torch.tensor(logits)).item()
    assert pytest.approx(-(mean * np.log(mean)).sum(), abs=1e-6) == marginal_entropy(torch.tensor(logits)).item()


def test_centroid_labels_are_those_of_the_formula() -> None:
    """Soft centroids, labels by cosine, hard centroids, labels by cosine; written out row by row."""
    vectors, p = RANDOM.normal(size=(40, 5)), RANDOM.dirichlet(np.ones(3), size=40)
    directions = [vector / np.linalg.norm(vector) for vector in vectors]
    weights = p
    for _ in range(2):
        sums = [sum(weights[i, c] * directions[i] for i in range(40)) for c in range(3)]
        labels = np.array([np.argmax([d @ s / np.linalg.norm(s) for s in sums]) for d in directions])
        weights = np.eye(3)[labels]
    assert labels.tolist() == centroid_labels(torch.tensor(vectors), torch.tensor(p)).tolist()


def test_a_class_that_nothing_answers_gets_no_pseudo_label() -> None:
    """Its centroid would be of images that are surely something else."""
    p = torch.tensor([[0.6, 0.1, 0.3], [0.1, 0.6, 0.3], [0.55, 0.1, 0.35], [0.1, 0.55, 0.35]])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.3], [0.7, 0.7]])
    assert {0, 1} == set(centroid_labels(vectors, p).tolist())


def test_a_collapse_is_taken_back(ready: Ready) -> None:
    """At an absurd rate the network forgets the source: both epochs are taken back, and the record says so."""
    record = ready.fit("shot", epochs=6, learning_rate=0.3, pseudo_label_weight=0.0).record
    assert 2 == len([text for text in record.sentences if "was taken back" in text])
    assert 2 + len([entry for entry in record.history if entry.terms["source_retention"] >= 0.8]) == len(record.history)
    assert record.guards["source_retention"]
    assert "what was right before on 12 held-out source images was left" in record.sentences[-2]


def test_without_epochs_to_keep_shot_is_adabn(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every epoch is refused, training ends on the network that it began with, under the target's statistics."""
    expected = ready.fit("adabn").network.state_dict()
    monkeypatch.setattr(retention.Card, "retention", lambda *_: 0.5)
    found = ready.fit("shot", epochs=6)
    assert 2 == len(found.record.history)
    assert "for 0 of 2 epochs" in found.record.sentences[2]
    for name, value in found.network.state_dict().items():
        assert torch.equal(expected[name], value), name


def test_pseudo_labels_survive_a_restart(ready: Ready) -> None:
    """They are in the state that the engine keeps with a checkpoint."""
    task = ready.task()
    card = retention.card_for(task, task.pretrained_network())
    objective = InformationMaximisation(task.target_images, 0.3, card)
    assert ["pseudo_labels"] == list(objective.state_dict())


# -- the card ----------------------------------------------------------------------------------------------------------


def test_the_card_of_a_source_is_held_out(ready: Ready) -> None:
    """Images of its validation split, with their labels."""
    task = ready.task()
    card = retention.card_for(task, starting_network(task).network)
    assert {"val"} == set(card.images.bank.manifest.frame["split"])
    assert [4, 4, 4] == np.bincount(card.images.labels).tolist()


def test_a_source_that_is_not_known_is_on_no_card(ready: Ready) -> None:
    """A head of zeros answers one class only: of its share of luck nothing could be forgotten."""
    task = ready.task()
    assert "answers_kept" == retention.card_for(task, task.pretrained_network()).term


def test_without_a_source_the_card_holds_the_surest_answers(without_source: Ready) -> None:
    """A fifth of the target's images under the network's own answers, all of which are right before adaptation."""
    task = without_source.task()
    network = task.checkpoint_network()
    card = retention.card_for(task, network)
    with torch.no_grad():
        confidence, answers = network(pixels(task.target_images)).softmax(dim=1).max(dim=1)
    surest = np.sort(np.argsort(-confidence.numpy(), kind="stable")[: round(0.2 * len(answers))])
    assert answers.numpy()[surest].tolist() == card.images.labels.tolist()
    assert 1.0 == card.before == card.retention(network, CPU)
    assert "answers_kept" == card.term


def test_measuring_leaves_the_network_as_it_was(ready: Ready) -> None:
    """The source is answered under its own statistics, and the target's are back afterwards."""
    task = ready.task()
    network = task.pretrained_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    retention.card_for(task, network).retention(network, CPU)
    for name, value in network.state_dict().items():
        assert torch.equal(before[name], value), name


# -- no source, no label: a checkpoint's own head ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["adabn", "tent", "shot"])
def test_a_checkpoints_own_head_is_enough(without_source: Ready, strategy: str) -> None:
    """Neither source nor label: the record says what was known of the classes, and no accuracy is claimed."""
    task = without_source.task()
    assert "checkpoint" == task.labels_from
    record = without_source.fit(strategy, task).record
    assert record.sentences[0].startswith("No image is labelled; what is known of the classes is the head")
    assert (None, None, "none") == (record.val_accuracy, record.cv_accuracy, record.selection)


def test_a_head_of_other_classes_is_refused(without_source: Ready) -> None:
    """With the number of its outputs, and where its classes are named."""
    other = Ready(without_source.domains._replace(labels=LabelSpace(classes=["a", "b"])), without_source.start)
    with pytest.raises(WeightsError) as refusal:
        other.fit("shot")
    assert "the 2 classes of the label space" in str(refusal.value)
    assert "one with 3 outputs" in str(refusal.value)
    assert "ingest.classes" in str(refusal.value)
