"""AutoGluon MultiModal: ``MultiModalPredictor(label="label").fit(frame, hyperparameters=…)`` with timm's resnet18.

Everything but the checkpoint is at the library's default: AdamW at 1e-4 with rates that fall towards the first layer,
batches of 128 gathered from 8, at most 20 epochs, validation twice an epoch, patience 10, the best three states
averaged. Of the versions it asks for, torch's and torchvision's are overruled, so that all peers have the same.

The checkpoint is a local folder in timm's form, which the library takes in place of a name; its values are the
weight file's.

https://auto.gluon.ai/stable/tutorials/multimodal/image_prediction/beginner_image_cls.html
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be fetched

import pandas as pd
import scoring
import torch
from autogluon.multimodal import MultiModalPredictor
from autogluon.multimodal.learners.base import BaseLearner
from job import SPLITS, Job, job_of
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as Loop
from lightning.pytorch.callbacks import Timer
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

SCORE = transforms.Compose(
    [
        transforms.Resize(224, interpolation=InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
"""What the library does to images it answers."""

CARD = {
    "architecture": "resnet18",
    "num_features": 512,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
        "crop_pct": 0.95,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    },
}


class Clock(Callback):
    """Scores after each validation with the clock standing still, and notes how training ended."""

    def __init__(self, job: Job) -> None:
        self.job, self.is_cut = job, False

    def on_train_batch_end(self, trainer: Loop, *_: Any) -> None:
        """The library's limit is a timer of the loop, which looks after each batch."""
        timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))
        self.is_cut = any((timer.time_remaining() or 0) <= 0 for timer in timers)

    def on_train_end(self, trainer: Loop, pl_module: LightningModule) -> None:
        self.job.training_ended(complete=not self.is_cut)

    def on_validation_end(self, trainer: Loop, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.global_step:
            return
        with self.job.standing_still():
            network = pl_module.model
            was_training = network.training
            network.eval()
            score = scoring.accuracy(lambda images: network.head(network.model(images)), _test_batches(self.job))
            network.train(was_training)
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready / trainer.num_training_batches
        self.job.scored(round(trainer.current_epoch + done, 2), score)
        trainer.should_stop |= self.job.good_enough


def main() -> None:
    job = job_of("AutoGluon MultiModal")
    with job.standing_still():
        checkpoint = _lay_out_as_download(job)
        shutil.rmtree(job.work / "predictor", ignore_errors=True)  # it refuses a folder that is there
    job.phase_ends("start")
    frames = {split: _frame(job.folder / split) for split in SPLITS}
    _add_callback(Clock(job))
    predictor = MultiModalPredictor(label="label", path=str(job.work / "predictor"), verbosity=1)
    job.phase_ends("data and network")
    predictor.fit(
        train_data=frames["train"],
        tuning_data=frames["val"],
        time_limit=max(1, int(job.budget_s - job.seconds)),
        seed=0,
        hyperparameters={"model.names": ["timm_image"], "model.timm_image.checkpoint_name": str(checkpoint)},
    )
    job.phase_ends("train and save")
    saved = MultiModalPredictor.load(str(job.work / "predictor"), verbosity=1)
    answers = saved.predict(frames["test"].drop(columns="label"))
    accuracy = float((answers.to_numpy() == frames["test"]["label"].to_numpy()).mean())
    job.finish(accuracy, ("autogluon.multimodal", "timm", "lightning", "torch"))


def _lay_out_as_download(job: Job) -> Path:
    """A folder in timm's form: card and values, without the layer for ImageNet's classes."""
    place = job.work / "resnet18"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(CARD), encoding="utf-8")
    weights = scoring.float32_weights(job.weights)
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    torch.save(backbone, place / "pytorch_model.bin")
    return place


def _frame(folder: Path) -> pd.DataFrame:
    rows = [(str(file), file.parent.name) for file in sorted(folder.glob("*/*"))]
    return pd.DataFrame(rows, columns=["image", "label"])


def _test_batches(job: Job) -> DataLoader:
    return DataLoader(datasets.ImageFolder(str(job.folder / "test"), SCORE), batch_size=32)


def _add_callback(callback: Callback) -> None:
    """``fit`` takes no callbacks: add one to those it makes."""
    made = BaseLearner.get_callbacks_per_run

    def with_ours(self: BaseLearner, *given: Any, is_train: bool = True, **named: Any) -> list[Callback]:
        return [*made(self, *given, is_train=is_train, **named), *([callback] if is_train else [])]

    BaseLearner.get_callbacks_per_run = with_ours


if __name__ == "__main__":
    main()
