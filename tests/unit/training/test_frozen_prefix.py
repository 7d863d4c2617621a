"""Frozen blocks are passed once where an image looks the same each time, and training is what it is without that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import TrainingError
from pipeline.data.images import ImageStore
from pipeline.data.loading import ImageBank
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.network import Network, build_backbone
from pipeline.training import engine
from pipeline.training.engine import Outcome, fit, score
from pipeline.training.frozen_prefix import FrozenPrefix
from pipeline.training.objectives import Batch, CrossEntropy, Images
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase, discriminative

PLAIN = EngineOptions(batch_size=8, min_steps_per_epoch=2, augment="none")
CPU = torch.device("cpu")


def a_network() -> Network:
    return Network("small_cnn", build_backbone("small_cnn"), 3)


def a_phase(network: Network, frozen: int = 2, **fields: Any) -> Phase:
    rates = discriminative(tuple(network.row.blocks), head=1e-3, last=1e-3, frozen=frozen)
    return Phase(**{"name": "tune", "epochs": 3, "learning_rates": rates, "batch_norm": "train", **fields})


def images(toy_domains: Any, split: str) -> Images:
    manifest = toy_domains.source.split(split)
    bank = ImageBank(manifest, ImageStore(toy_domains.workspace, 1), a_network().row.preprocessing)
    return Images(bank, toy_domains.labels.indices(manifest.frame["label"]))


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the first block of any network, call by call; blank ones count as one."""
    found: list[int] = []
    network_of = Network.__init__

    def counting(self: Network, name: str, body: nn.Module, classes: int) -> None:
        network_of(self, name, body, classes)
        body.stem.register_forward_hook(lambda module, given, output: found.append(len(output)))  # type: ignore[union-attr]

    monkeypatch.setattr(Network, "__init__", counting)
    return found


def trained(toy_domains: Any, options: EngineOptions = PLAIN, **fields: Any) -> tuple[Outcome, dict[str, Tensor]]:
    network = a_network()
    objective = fields.pop("objective", None)
    train, val = images(toy_domains, "train"), images(toy_domains, "val")
    phases = [a_phase(network, **fields)]
    outcome = fit(network, phases, train, val, options, toy_domains.context(), objective=objective)
    return outcome, dict(network.state_dict())


@pytest.mark.parametrize("frozen", [1, 2, 4])
@pytest.mark.parametrize("options", [PLAIN, PLAIN.model_copy(update={"augment": "affine"})], ids=["plain", "augmented"])
def test_training_is_what_it_is_without(
    toy_domains: Any, monkeypatch: pytest.MonkeyPatch, options: EngineOptions, frozen: int
) -> None:
    """Weights, losses, accuracies and the epoch that is kept are, within rounding, those of passing every block for
    every image each time; the frozen blocks end as they began.
    """
    outcome, weights = trained(toy_domains, options, frozen=frozen)
    monkeypatch.setattr(FrozenPrefix, "of", lambda *given: None)
    expected, expected_weights = trained(toy_domains, options, frozen=frozen)
    for name, value in weights.items():
        torch.testing.assert_close(value, expected_weights[name], rtol=1e-4, atol=1e-5)
    for entry, other in zip(outcome.history, expected.history, strict=True):
        assert other.train_loss == pytest.approx(entry.train_loss, abs=1e-5)
        assert other.val_loss == pytest.approx(entry.val_loss, abs=1e-5)
        assert entry.val_accuracy == other.val_accuracy
    assert outcome.kept == expected.kept
    assert outcome.guards == expected.guards
    assert outcome.guards["frozen_weights_unchanged"]


def test_images_pass_the_frozen_blocks_once(toy_domains: Any, passed: list[int]) -> None:
    """Without augmentation each image passes once; every step and score after that costs one blank image."""
    trained(toy_domains, epochs=4)
    count = len(images(toy_domains, "train")) + len(images(toy_domains, "val"))
    assert sum(size for size in passed if size > 1) == count
    assert len(passed) > 4 * 2 + 4


def test_with_augmentation_only_validation_images_do(toy_domains: Any, passed: list[int]) -> None:
    """A training image is another in each epoch: it passes every block each time, in batches of eight."""
    trained(toy_domains, PLAIN.model_copy(update={"augment": "affine"}), epochs=4)
    steps = -(-len(images(toy_domains, "train")) // 8)
    assert sorted(size for size in passed if size > 1) == sorted([8] * steps * 4 + [len(images(toy_domains, "val"))])


def test_what_exceeds_the_budget_is_not_kept(toy_domains: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Training images come first, validation images have what these leave; what is kept is told."""
    train, val = (len(images(toy_domains, split)) for split in ("train", "val"))
    each = 32 * 8 * 8 * 4 / 1e6  # stage1's maps, float32
    for room, kept in ((train + val, [train, val]), (train, [train]), (val, [val]), (0, [])):
        trained(toy_domains, PLAIN.model_copy(update={"memory_mb": room * each}), epochs=1)
        said = capsys.readouterr().out
        assert [int(line.split()[5]) for line in said.splitlines() if "outputs of frozen blocks kept" in line] == kept


class Aside(CrossEntropy):
    """Cross-entropy that also looks at the images themselves."""

    needs_only_logits = False

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        assert batch.images.shape[1:] == (3, 32, 32)
        return super().loss(network, batch, phase)


def test_an_objective_that_looks_further_gets_images(toy_domains: Any) -> None:
    """Only an objective that asks for nothing but the network's answers is given less than images."""
    trained(toy_domains, objective=Aside())


def test_nothing_is_kept_where_training_begins_with_the_input(toy_domains: Any) -> None:
    """A block that is frozen behind one that moves gives another output in every step."""
    network = a_network()
    rates = {**dict.fromkeys(network.groups, 1e-3), "stage1": None}
    assert FrozenPrefix.of(network, a_phase(network, learning_rates=rates), 32) is None
    assert FrozenPrefix.of(network, a_phase(network, frozen=0), 32) is None


def test_each_phase_begins_where_its_own_frozen_blocks_end(toy_domains: Any) -> None:
    """Blocks that a later phase sets free move in it, and the network as a whole has the score that was recorded."""
    network, val = a_network(), images(toy_domains, "val")
    phases = [a_phase(network, frozen=count, name=f"from_{count}", keep="last") for count in (4, 2, 0)]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outcome = fit(network, phases, images(toy_domains, "train"), val, PLAIN, toy_domains.context())
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters())
    found = score(network, val, CPU, batch_size=32)
    assert outcome.history[-1].val_loss == pytest.approx(found.loss, abs=1e-6)


def test_a_killed_run_resumes_to_the_same_bytes(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs are not checkpointed: computed again, they are equal to the last bit."""
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)

    class Dying(CrossEntropy):
        left = 10**6

        def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().loss(network, batch, phase)

    def run(scratch: Path, steps: int = 10**6) -> dict[str, Tensor]:
        network, objective = a_network(), Dying()
        objective.left = steps
        train, val, context = (
            images(toy_domains, "train"),
            images(toy_domains, "val"),
            toy_domains.context(scratch=scratch),
        )
        fit(network, [a_phase(network)], train, val, PLAIN, context, objective=objective)
        return dict(network.state_dict())

    undisturbed = run(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", steps=8)  # in the second epoch of five steps
    resumed = run(tmp_path / "b")
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())


def test_bfloat16_is_kept_as_it_is_computed(toy_domains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images' outputs in half the bytes; validation is scored in float32, as without."""
    options = PLAIN.model_copy(update={"precision": "bfloat16"})
    outcome, weights = trained(toy_domains, options)
    monkeypatch.setattr(FrozenPrefix, "of", lambda *given: None)
    expected, expected_weights = trained(toy_domains, options)
    assert outcome.history[0].val_loss == pytest.approx(expected.history[0].val_loss, abs=1e-2)
    for name, value in weights.items():
        torch.testing.assert_close(value, expected_weights[name], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("frozen", [2, 6])
def test_frozen_statistics_stand_still(toy_domains: Any, frozen: int) -> None:
    """Neither images nor blank ones, which are smaller, move BatchNorm's statistics; a fresh network is in training
    mode.
    """
    network = Network("mobilenet_v2", build_backbone("mobilenet_v2"), 3)
    preprocessing = Preprocessing(size_px=64, resize_px=64)
    banks = {}
    for split in ("train", "val"):
        manifest = toy_domains.source.split(split)
        bank = ImageBank(manifest, ImageStore(toy_domains.workspace, 1), preprocessing)
        banks[split] = Images(bank, toy_domains.labels.indices(manifest.frame["label"]))
    before = {
        name: value.clone() for group in network.groups[:frozen] for name, value in network.state_of(group).items()
    }
    assert network.training
    phase = a_phase(network, frozen=frozen, epochs=1)
    outcome = fit(network, [phase], banks["train"], banks["val"], PLAIN, toy_domains.context())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert outcome.guards["frozen_weights_unchanged"]


def test_nothing_is_computed_after_the_deadline(toy_domains: Any, passed: list[int]) -> None:
    """No pass over all images for a phase in which no epoch begins."""
    network = a_network()
    context = replace(toy_domains.context(), deadline_s=1.0)
    with pytest.raises(TrainingError, match="The budget was spent after 0 of 3 epochs"):
        fit(network, [a_phase(network)], images(toy_domains, "train"), None, PLAIN, context)
    assert passed == []


def test_a_backbone_that_does_not_call_its_block_is_told(toy_domains: Any) -> None:
    """A row of the table that names a module which no image passes is a mistake in that row."""
    network = a_network()
    prefix = FrozenPrefix(network, nn.Identity(), 32)
    with pytest.raises(RuntimeError, match="did not call Identity, where its frozen blocks end"):
        prefix.kept(images(toy_domains, "val"), CPU, batch_size=8, budget_mb=1)


def test_kept_outputs_may_be_changed_by_what_follows(toy_domains: Any) -> None:
    """Layers work in place: the rows that a step is given are its own."""
    network, val = a_network(), images(toy_domains, "val")
    kept = FrozenPrefix.of(network, a_phase(network), 32)
    assert kept is not None
    outputs = kept.kept(val, CPU, batch_size=4, budget_mb=100)
    assert outputs is not None

    rows = np.arange(len(val))
    before = next(outputs.batches([rows], CPU)).clone()
    next(outputs.batches([rows], CPU)).zero_()
    torch.testing.assert_close(next(outputs.batches([rows], CPU)), before)
