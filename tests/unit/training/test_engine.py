"""The training loop: coverage, freezing, early stopping, resuming, failing clearly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.core.errors import TrainingError
from pipeline.data.images import ImageStore
from pipeline.data.loading import ImageBank
from pipeline.models.network import Network, build_backbone
from pipeline.training import engine
from pipeline.training.engine import fit, schedule, score, set_modes
from pipeline.training.objectives import Batch, CrossEntropy, Images, Judgement, Objective
from pipeline.training.options import EngineOptions
from pipeline.training.phases import Phase

OPTIONS = EngineOptions(batch_size=8, min_steps_per_epoch=2)


def a_network() -> Network:
    return Network("small_cnn", build_backbone("small_cnn"), 3)


def a_phase(network: Network, **fields: Any) -> Phase:
    rates = dict.fromkeys(network.groups, 1e-3)
    return Phase(**{"name": "tune", "epochs": 2, "learning_rates": rates, **fields})


def images(toy_domains: Any, split: str) -> Images:
    manifest = toy_domains.source.split(split)
    network = a_network()
    bank = ImageBank(manifest, ImageStore(toy_domains.workspace, 1), network.row.preprocessing)
    return Images(bank, toy_domains.labels.indices(manifest.frame["label"]))


def test_learns_the_toy_domain(toy_domains: Any) -> None:
    """A few epochs on bright bars are enough to tell them apart on images not seen."""
    network, val = a_network(), images(toy_domains, "val")
    rates = dict.fromkeys(network.groups, 3e-3)
    phase = a_phase(network, epochs=6, learning_rates=rates, batch_norm="train")
    fit(network, [phase], images(toy_domains, "train"), val, OPTIONS, toy_domains.context())
    assert score(network, val, torch.device("cpu"), batch_size=8).accuracy > 0.9


def test_a_group_left_out_is_an_error_that_names_it(toy_domains: Any) -> None:
    """Nothing is frozen or trained by accident: every group must be named, and no other."""
    network = a_network()
    rates = {**dict.fromkeys(network.groups, 1e-3), "stage9": 1e-3}
    del rates["stage2"]
    with pytest.raises(TrainingError, match=r"leaves out \['stage2'\] and names \['stage9'\]"):
        fit(
            network,
            [a_phase(network, learning_rates=rates)],
            images(toy_domains, "train"),
            None,
            OPTIONS,
            toy_domains.context(),
        )


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_frozen_groups_do_not_move(toy_domains: Any, batch_norm: str) -> None:
    """None freezes weights and BatchNorm statistics, in either BatchNorm mode; the other groups move."""
    network = a_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rates = {**dict.fromkeys(network.groups, 1e-3), "stem": None, "stage2": None}
    phase = a_phase(network, learning_rates=rates, batch_norm=batch_norm)
    fit(network, [phase], images(toy_domains, "train"), None, OPTIONS, toy_domains.context())
    for group in network.groups:
        moved = {name for name, value in network.state_of(group).items() if not torch.equal(before[name], value)}
        weights = set(network.parameters_of(group))
        assert moved & weights == (set() if rates[group] is None else weights)
        statistics_move = rates[group] is not None and batch_norm == "train" and group != "head"
        assert bool(moved - weights) == statistics_move


def test_guards_hold_in_honest_training(toy_domains: Any) -> None:
    """All are measured and kept; nothing is promised about frozen weights where none are frozen."""
    network = a_network()
    outcome = fit(
        network,
        [a_phase(network)],
        images(toy_domains, "train"),
        images(toy_domains, "val"),
        OPTIONS,
        toy_domains.context(),
    )
    assert {"training_loss_did_not_diverge": True, "validation_losses_finite": True} == outcome.guards


class Made(Objective):
    """An objective out of a function."""

    def __init__(self, function: Callable[[Network, Batch, Phase], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, torch.Tensor]:
        return {"loss": self.function(network, batch, phase)}


def test_a_frozen_weight_that_moves_breaks_its_guard(toy_domains: Any) -> None:
    """The promise is measured, not assumed: a loss that meddles with a frozen block is found out, phases later too."""
    network = a_network()

    def meddling(network: Network, batch: Batch, phase: Phase) -> torch.Tensor:
        with torch.no_grad():
            next(iter(network.parameters_of("stem").values())).add_(0.1 * (phase.name == "tune"))
        return functional.cross_entropy(network(batch.images), batch.labels)

    rates = {**dict.fromkeys(network.groups, 1e-3), "stem": None}
    phases = [a_phase(network, learning_rates=rates), a_phase(network, name="later", learning_rates=rates)]
    train = images(toy_domains, "train")
    outcome = fit(network, phases, train, None, OPTIONS, toy_domains.context(), objective=Made(meddling))
    assert outcome.guards["frozen_weights_unchanged"] is False


def test_training_that_diverges_breaks_its_guard(toy_domains: Any) -> None:
    """Steps that climb instead of descending end on a high, finite loss; with validation the start is kept instead."""
    network = a_network()

    def climbing(network: Network, batch: Batch, phase: Phase) -> torch.Tensor:
        loss = functional.cross_entropy(network(batch.images), batch.labels)
        return 2 * loss.detach() - loss

    phase = a_phase(network, epochs=4, learning_rates=dict.fromkeys(network.groups, 3e-2))
    held = []
    for val in (None, images(toy_domains, "val")):
        train = images(toy_domains, "train")
        outcome = fit(a_network(), [phase], train, val, OPTIONS, toy_domains.context(), objective=Made(climbing))
        held.append(outcome.guards["training_loss_did_not_diverge"])
    assert [False, True] == held


def test_a_loss_that_is_not_finite_stops_with_advice(toy_domains: Any) -> None:
    """NaN does not go on silently; the message says where it happened and what to lower."""
    network = a_network()
    broken = Made(lambda network, batch, phase: network(batch.images).sum() * float("nan"))
    train = images(toy_domains, "train")
    with pytest.raises(TrainingError, match=r"became nan in phase 'tune', epoch 1.*lower the strategy's rates"):
        fit(network, [a_phase(network)], train, None, OPTIONS, toy_domains.context(), objective=broken)


def test_keeps_the_best_weights_and_stops_when_patience_ends(toy_domains: Any) -> None:
    """A phase that only makes things worse ends after ``patience`` epochs on the weights it began with."""
    network = a_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    phase = a_phase(network, epochs=9, patience=2)
    away = Made(lambda network, batch, phase: -functional.cross_entropy(network(batch.images), batch.labels))
    train, val = images(toy_domains, "train"), images(toy_domains, "val")
    outcome = fit(network, [phase], train, val, OPTIONS, toy_domains.context(), objective=away)
    assert len(outcome.history) == 2
    assert {"tune": 0} == outcome.kept
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_no_epoch_begins_after_the_deadline(toy_domains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever call of the engine it is reached in; one to come changes nothing."""
    train, phases, clock = images(toy_domains, "train"), [a_phase(a_network(), epochs=3)], [100.0]
    monkeypatch.setattr(engine, "time", SimpleNamespace(time=lambda: clock[0], monotonic=lambda: clock[0]))

    def ticking(network: Network, batch: Batch, phase: Phase) -> torch.Tensor:
        clock[0] += 1
        return functional.cross_entropy(network(batch.images), batch.labels)

    def run(deadline_s: float | None) -> dict[str, torch.Tensor]:
        network, clock[0] = a_network(), 100.0
        context = replace(toy_domains.context(), deadline_s=deadline_s)
        fit(network, phases, train, None, OPTIONS, context, objective=Made(ticking))
        return dict(network.state_dict())

    plain, in_time = run(None), run(120.0)
    assert all(torch.equal(value, in_time[name]) for name, value in plain.items())
    with pytest.raises(TrainingError, match=r"The budget was spent after 2 of 3 epochs of phase 'tune'\."):
        run(109.0)


def test_a_killed_run_resumes_to_the_same_bytes(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stop in the second phase's second epoch, start again: weights, curves and live file are as if undisturbed."""
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)

    def run(scratch: Path, dies_at: int | None = None) -> tuple[dict[str, torch.Tensor], list[Any]]:
        network, steps = a_network(), iter(range(1000))

        def dying(network: Network, batch: Batch, phase: Phase) -> torch.Tensor:
            if next(steps) == dies_at:
                raise KeyboardInterrupt
            return functional.cross_entropy(network(batch.images), batch.labels)

        phases = [a_phase(network, batch_norm="train"), a_phase(network, name="second", epochs=3, patience=2)]
        context = toy_domains.context(scratch=scratch)
        train, val = images(toy_domains, "train"), images(toy_domains, "val")
        outcome = fit(network, phases, train, val, OPTIONS, context, objective=Made(dying))
        return dict(network.state_dict()), [outcome.history, outcome.kept, outcome.guards]

    undisturbed, curves = run(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", dies_at=2 * 5 + 5 + 3)  # five steps per epoch
    capsys.readouterr()
    resumed, resumed_curves = run(tmp_path / "b")
    assert "going on from a checkpoint, 3 epoch(s) done" in capsys.readouterr().out
    assert curves == resumed_curves
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())
    assert (tmp_path / "a/live.jsonl").read_text() == (tmp_path / "b/live.jsonl").read_text()


def test_a_checkpoint_of_another_thread_count_is_left_alone(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resume under another affinity would mix two ways of rounding: it starts anew, and says so."""
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    before = torch.get_num_threads()

    def starts_with(threads: int) -> int:
        """The epochs that the loop believes are done."""
        torch.set_num_threads(threads)
        network, train = a_network(), images(toy_domains, "train")
        context = toy_domains.context(scratch=tmp_path / "scratch")
        loop = engine._Loop(network, [a_phase(network)], train, None, OPTIONS, context, CrossEntropy(), "training")
        done = loop.state.epoch
        loop.run()
        return done

    try:
        assert [0, 2, 0] == [starts_with(threads) for threads in (1, 1, 2)]
    finally:
        torch.set_num_threads(before)
    said = capsys.readouterr().out
    assert "starting anew: the checkpoint was made by cpu, 1 thread(s)" in said
    assert "this is cpu, 2 thread(s)" in said


def test_live_curves_have_one_line_per_epoch(toy_domains: Any, tmp_path: Path) -> None:
    """Whoever watches can read each epoch as it ends."""
    network = a_network()
    context = toy_domains.context(scratch=tmp_path / "scratch")
    outcome = fit(network, [a_phase(network)], images(toy_domains, "train"), None, OPTIONS, context)
    lines = (tmp_path / "scratch" / "live.jsonl").read_text().splitlines()
    assert [entry.model_dump() for entry in outcome.history] == [json.loads(line) for line in lines]


def test_the_table_of_groups_is_printed(toy_domains: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """People see what is trainable, at which rate, and what BatchNorm does."""
    network = a_network()
    rates = {**dict.fromkeys(network.groups, 1e-3), "stem": None}
    fit(
        network,
        [a_phase(network, learning_rates=rates)],
        images(toy_domains, "train"),
        None,
        OPTIONS,
        toy_domains.context(),
    )
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tune", "stem", "464", "frozen", "fixed"] in printed
    assert ["tune", "head", "771", "1.0e-03", "none"] in printed


def test_modes_follow_the_phase() -> None:
    """Frozen blocks are in eval mode (dropout and statistics stand still), trainable ones in training mode."""
    network = a_network()
    rates = {**dict.fromkeys(network.groups, 1e-3), "stem": None}
    set_modes(network, a_phase(network, learning_rates=rates, batch_norm="train"))
    modes = {group: {module.training for module in network.modules_of(group)} for group in network.groups}
    assert {"stem": {False}, "stage1": {True}, "stage2": {True}, "stage3": {True}, "head": {True}} == modes


def test_schedule_rises_then_falls() -> None:
    """Linear warm-up over the first tenth, cosine to (almost) zero after it."""
    factors = [schedule(step, 100, warmup=0.1) for step in range(100)]
    assert pytest.approx([0.1, 0.5, 1.0, 1.0]) == [factors[0], factors[4], factors[9], factors[10]]
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


class Refusing(Objective):
    """Cross-entropy whose every epoch is refused."""

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, torch.Tensor]:
        return {"loss": functional.cross_entropy(network(batch.images), batch.labels)}

    def judge(self, network: Network, device: torch.device) -> Judgement:
        return Judgement({"source_retention": 0.2}, "source retention is 20%.")


def test_an_objective_takes_epochs_back(toy_domains: Any) -> None:
    """A refused epoch leaves no trace in the weights; rates are halved once, the second refusal ends the phase."""
    network = a_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    phase = a_phase(network, epochs=9, keep="last")
    train = images(toy_domains, "train")
    outcome = fit(network, [phase], train, None, OPTIONS, toy_domains.context(), objective=Refusing())
    assert [{"source_retention": 0.2}] * 2 == [epoch.terms for epoch in outcome.history]
    assert outcome.history[1].learning_rate < outcome.history[0].learning_rate
    assert outcome.breaches[0] == "Epoch 1 of phase tune was taken back: source retention is 20%."
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_only_batch_norm_moves_where_asked(toy_domains: Any) -> None:
    """Scales and shifts change, kernels and the head stay bit for bit, and the guard that says so holds."""
    network = a_network()
    before = {name: value.clone() for name, value in network.named_parameters()}
    phase = a_phase(network, only_batch_norm=True, batch_norm="train")
    network.set_head(torch.randn(3, 256), torch.zeros(3))
    before |= {f"head.{name}": value.clone() for name, value in network.head.named_parameters()}
    outcome = fit(network, [phase], images(toy_domains, "train"), None, OPTIONS, toy_domains.context())
    moved = {name for name, value in network.named_parameters() if not torch.equal(before[name], value)}
    assert moved
    assert all(value.ndim == 1 and name.startswith("backbone.") for name, value in before.items() if name in moved)
    assert all(outcome.guards.values())


def test_l2_sp_holds_weights_near_their_start(toy_domains: Any) -> None:
    """A strong pull leaves the backbone nearer to where it began than none."""
    distances = []
    for pull in (0.0, 10.0):
        network = a_network()
        network.set_head(torch.randn(3, 256, generator=torch.Generator().manual_seed(0)), torch.zeros(3))
        start = {name: value.clone() for name, value in network.backbone.named_parameters()}
        phase = a_phase(network, epochs=4, l2_sp=pull)
        fit(network, [phase], images(toy_domains, "train"), None, OPTIONS, toy_domains.context())
        moved = [(value.detach() - start[name]).square().sum() for name, value in network.backbone.named_parameters()]
        distances.append(float(torch.stack(moved).sum().detach()))
    assert distances[1] < distances[0]


def test_the_start_of_l2_sp_comes_back_to_the_device(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is read into the CPU's memory; what weights are held to must be where they are. (The device "meta"
    stands in for an accelerator here.)
    """
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    train, context = images(toy_domains, "train"), toy_domains.context(scratch=tmp_path / "scratch")
    phase = a_phase(a_network(), epochs=1, l2_sp=1.0)
    fit(a_network(), [phase], train, None, OPTIONS, context)
    loop = engine._Loop(a_network(), [phase], train, None, OPTIONS, context, CrossEntropy(), "training")
    loop.device = torch.device("meta")
    loop.state.network = None  # nothing can be copied there
    loop._prepare()
    assert {loop.device} == {value.device for value in loop.state.start.values()}


class Beside(Objective):
    """Cross-entropy, and a number of its own that wants to be far away."""

    learning_rate = 1.0

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope, self.stale = slope, set()
        self.own = torch.nn.Parameter(torch.zeros(()))

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, torch.Tensor]:
        held = [name for name, value in network.named_parameters() if value.grad is not None]
        self.stale |= {name for name in held if phase.learning_rates.get(name.split(".")[-2], 1) is None}
        if phase.name == "second":
            self.stale |= {name for name in held if not name.startswith("head.")}
        return {"loss": functional.cross_entropy(network(batch.images), batch.labels) - self.slope * self.own}


def test_gradients_of_an_earlier_phase_are_gone(toy_domains: Any) -> None:
    """What is frozen now has none left that clipping would count."""
    network, objective = a_network(), Beside(0.0)
    head_alone = {**dict.fromkeys(network.groups), "head": 1e-3}
    phases = [a_phase(network), a_phase(network, name="second", learning_rates=head_alone)]
    train = images(toy_domains, "train")
    fit(network, phases, train, None, OPTIONS, toy_domains.context(), objective=objective)
    assert set() == objective.stale


def test_clipping_counts_all_that_is_trained(toy_domains: Any) -> None:
    """The objective's own parameters among it: a step of plain descent is no longer than rate times the norm."""
    options = EngineOptions(batch_size=36, min_steps_per_epoch=1, optimizer="sgd", clip_norm=0.5)
    network, objective = a_network(), Beside(1e4)
    train = images(toy_domains, "train")
    fit(network, [a_phase(network, epochs=1)], train, None, options, toy_domains.context(), objective=objective)
    assert 0 < objective.own.item() <= 0.5 + 1e-6


class Remembering(Refusing):
    """One that is refused, with weights of its own and a count of epochs."""

    learning_rate = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.own = torch.nn.Parameter(torch.zeros(()))

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, torch.Tensor]:
        return {"loss": super().loss(network, batch, phase)["loss"] - self.own}


def test_a_refused_epoch_is_never_the_best(toy_domains: Any) -> None:
    """However much validation likes it, it is gone; the objective's own weights go back with the network's."""
    network, objective = a_network(), Remembering()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    phase = a_phase(network, epochs=9, learning_rates=dict.fromkeys(network.groups, 3e-3), batch_norm="train")
    train, val = images(toy_domains, "train"), images(toy_domains, "val")
    outcome = fit(network, [phase], train, val, OPTIONS, toy_domains.context(), objective=objective)
    assert {"tune": 0} == outcome.kept
    assert 2 == len(outcome.history)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert 0 == objective.own.item()


def test_the_table_shows_what_moves_under_only_batch_norm() -> None:
    """Scales and shifts are counted, kernels are not; a group without BatchNorm is frozen whatever its rate."""
    network = a_network()
    rows = {row.group: row for row in engine.describe(network, a_phase(network, only_batch_norm=True))}
    norms = [module for module in network.modules_of("stage2") if isinstance(module, engine.BATCH_NORM)]
    assert (sum(2 * norm.num_features for norm in norms), True) == (rows["stage2"].parameters, rows["stage2"].trainable)
    assert (771, False, None) == (rows["head"].parameters, rows["head"].trainable, rows["head"].learning_rate)


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_statistics_that_should_stand_still_are_watched(toy_domains: Any, batch_norm: str) -> None:
    """Those of trainable groups too, under batch_norm "eval": what moves them breaks the guard."""

    def meddling(network: Network, batch: Batch, phase: Phase) -> torch.Tensor:
        network.get_buffer("backbone.stem.0.1.running_mean").add_(0.1)
        return functional.cross_entropy(network(batch.images), batch.labels)

    network, train = a_network(), images(toy_domains, "train")
    phase = a_phase(network, batch_norm=batch_norm)
    outcome = fit(network, [phase], train, None, OPTIONS, toy_domains.context(), objective=Made(meddling))
    assert (batch_norm == "train") == outcome.guards.get("frozen_weights_unchanged", True)


def test_an_emulated_bfloat16_is_not_taken(toy_domains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the accelerator only emulates it, it would be slower than float32."""
    network, train = a_network(), images(toy_domains, "train")
    context = toy_domains.context()
    loop = engine._Loop(network, [a_phase(network)], train, None, OPTIONS, context, CrossEntropy(), "training")
    loop.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: (kind, enabled))
    assert ("cuda", False) == loop._autocast()


def test_a_later_fit_adds_to_the_live_curves(toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that trains several networks leaves the curves of all; one that begins anew leaves nothing twice."""
    context, train = toy_domains.context(scratch=tmp_path / "scratch"), images(toy_domains, "train")

    def run(name: str) -> list[dict[str, Any]]:
        network = a_network()
        outcome = fit(network, [a_phase(network, name=name)], train, None, OPTIONS, context, name=name)
        return [entry.model_dump() for entry in outcome.history]

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "scratch" / "live.jsonl").read_text().splitlines()]

    first, second = run("first"), run("second")
    assert [*first, *second] == lines()
    assert second == run("second")
    assert [*first, *second] == lines()
    assert first == run("first")
    assert first == lines()


def test_checkpoints_take_a_small_share_of_the_time(
    toy_domains: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where writing one takes four seconds and an epoch ten, the next comes eighty seconds later and not five."""
    clock, saved = [0.0], []

    def writing(kept: Any, file: Any) -> None:
        saved.append(len(kept["history"]))
        clock[0] += 4.0

    real = engine._Loop._finish_epoch

    def ten_seconds_on(self: Any, *arguments: Any) -> None:
        clock[0] += 10.0
        real(self, *arguments)

    monkeypatch.setattr(engine.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(engine.torch, "save", writing)
    monkeypatch.setattr(engine._Loop, "_finish_epoch", ten_seconds_on)
    network, context = a_network(), replace(toy_domains.context(), scratch=tmp_path)
    fit(network, [a_phase(network, epochs=20)], images(toy_domains, "train"), None, OPTIONS, context)
    assert saved == [1, 9, 17]
