"""What training on a GPU promises; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data import loading
from pipeline.features.extraction import extract
from pipeline.features.options import ExtractionOptions
from pipeline.models.checkpoints import BackboneWeights
from pipeline.training.engine import fit
from pipeline.training.frozen_prefix import FrozenPrefix
from pipeline.training.phases import Phase, discriminative
from pipeline.training.task import Task

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def trained(task: Task, device: str, precision: str) -> tuple[Any, list[float]]:
    """A few epochs over all layers."""
    options = task.options.model_copy(update={"precision": precision, "min_steps_per_epoch": 4})
    task = replace(task, options=options, context=replace(task.context, device=device), _banks={})
    network = task.pretrained_network()
    phase = Phase("all", 3, dict.fromkeys(network.groups, 1e-3), keep="last")
    outcome = fit(network, [phase], task.fit_images, task.val_images, options, task.context)
    assert all(outcome.guards.values())
    return task, [epoch.train_loss for epoch in outcome.history]


def test_training_in_float32_follows_the_cpu(a_task: Task) -> None:
    """Draws do not depend on the device, so that losses differ by rounding alone."""
    _, on_cpu = trained(a_task, "cpu", "float32")
    _, on_gpu = trained(a_task, "cuda", "float32")
    np.testing.assert_allclose(on_cpu, on_gpu, rtol=2e-2)


def test_training_in_bfloat16_comes_near(a_task: Task) -> None:
    """What ``precision: auto`` means on a card that has it."""
    _, exact = trained(a_task, "cuda", "float32")
    _, short = trained(a_task, "cuda", "auto")
    np.testing.assert_allclose(exact, short, rtol=0.1)


def test_decoded_images_stay_on_the_card(a_task: Task) -> None:
    """A step then waits for no copy; asked for on the CPU they come back."""
    task, _ = trained(a_task, "cuda", "auto")
    bank, rows = task.fit_images.bank, np.arange(3)
    assert bank.kept_on is not None
    assert bank.kept_on.type == "cuda"
    on_gpu = bank.fetch(rows, torch.device("cuda"))
    assert torch.equal(on_gpu.cpu(), bank.fetch(rows))


def test_more_images_than_the_card_has_room_for_stay_in_main_memory(
    a_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their batches go to the card one by one."""
    monkeypatch.setattr(loading, "GPU_SHARE", 0.0)
    task, _ = trained(a_task, "cuda", "auto")
    assert task.fit_images.bank.kept_on == torch.device("cpu")


@pytest.mark.parametrize("share", [0.25, 0.0], ids=["on the card", "in main memory"])
def test_outputs_of_frozen_blocks_are_kept(a_task: Task, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Wherever there is room: losses are those of passing every block each time."""
    monkeypatch.setattr(loading, "GPU_SHARE", share)
    options = a_task.options.model_copy(update={"precision": "float32", "min_steps_per_epoch": 4, "augment": "none"})
    task = replace(a_task, options=options, context=replace(a_task.context, device="cuda"), _banks={})

    def losses() -> list[float]:
        network = task.pretrained_network()
        phase = Phase("last", 3, discriminative(tuple(network.row.blocks), head=1e-3, last=1e-3, frozen=2))
        return [epoch.train_loss for epoch in fit(network, [phase], *sets, options, task.context).history]

    sets = task.fit_images, task.val_images
    kept = losses()
    monkeypatch.setattr(FrozenPrefix, "of", lambda *given: None)
    np.testing.assert_allclose(kept, losses(), rtol=1e-2)


def test_features_agree_with_the_cpu(lasting_domains: Any, pretrained: BackboneWeights) -> None:
    """To 1e-3 of their size."""
    tables = [
        extract(
            pretrained,
            [lasting_domains.target],
            replace(lasting_domains.context(), cache=None),
            torch.device(device),
            ExtractionOptions(batch_size=16),
        ).tables[0]
        for device in ("cpu", "cuda")
    ]
    scale = np.abs(tables[0].features).max()
    assert np.abs(tables[0].features - tables[1].features).max() < 1e-3 * scale
