"""Hugging Face's image classification example: ``datasets``' image folder and the ``Trainer`` of ``transformers``.

The arguments are those its page gives: AdamW at 2e-5, 5 epochs, batches of 8, validation and a checkpoint after each
epoch, the best of them loaded at the end. The network is ``ResNetForImageClassification`` in the shape of resnet-18,
with the weight file's values: its modules are torchvision's under other names.

https://github.com/huggingface/transformers/tree/main/examples/pytorch/image-classification
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be fetched
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import scoring
import torch
from datasets import Dataset, load_dataset
from job import Job, job_of
from torch.utils.data import DataLoader
from torchvision import models, transforms
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
    set_seed,
)

EPOCHS, BATCH = 5, 8
NORMALISE = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *NORMALISE])
SCORE = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), *NORMALISE])

NAMES = (
    (r"^conv1\.", "resnet.embedder.embedder.convolution."),
    (r"^bn1\.", "resnet.embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d)\.", lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
    (r"^fc\.", "classifier.1."),
)
"""torchvision's names of resnet18's parts, and what they are called in transformers."""


class Clock(TrainerCallback):
    """Scores each epoch with the clock standing still, and stops the trainer when time is up."""

    def __init__(self, job: Job, test: DataLoader) -> None:
        self.job, self.test = job, test

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **rest: Any) -> TrainerControl:
        control.should_training_stop |= self.job.out_of_time
        return control

    def on_epoch_end(
        self, args: Any, state: Any, control: TrainerControl, *, model: torch.nn.Module, **rest: Any
    ) -> TrainerControl:
        with self.job.standing_still():
            self.job.scored(round(state.epoch, 2), _accuracy(model, self.test))
        control.should_training_stop |= self.job.good_enough
        return control


def main() -> None:
    job = job_of("Hugging Face Trainer")
    set_seed(1337)
    with job.standing_still():
        pretrained = _lay_out_as_download(job)
        shutil.rmtree(job.work / "checkpoints", ignore_errors=True)  # or rotation counts those of the run before
    job.phase_ends("start")
    folders = {split: str(job.folder / split / "**") for split in ("train", "val", "test")}
    images = load_dataset("imagefolder", data_files=folders, cache_dir=str(job.work / "cache"))
    classes = images["train"].features["label"].names
    for split in folders:
        images[split].set_transform(_transform(TRAIN if split == "train" else SCORE))
    network = ResNetForImageClassification.from_pretrained(
        pretrained,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
        ignore_mismatched_sizes=True,
    )
    test = DataLoader(images["test"], batch_size=BATCH, collate_fn=_pair)
    trainer = _trainer(job, network, images["train"], images["val"], test)
    job.phase_ends("data and network")
    trainer.train()
    job.training_ended(complete=trainer.state.global_step >= trainer.state.max_steps)
    job.phase_ends("train")
    trainer.save_model(str(job.work / "model"))
    job.phase_ends("save")
    saved = ResNetForImageClassification.from_pretrained(job.work / "model")
    job.finish(_accuracy(saved, test), ("transformers", "datasets", "accelerate", "torch"))


def _lay_out_as_download(job: Job) -> Path:
    """The weights as a folder that ``from_pretrained`` reads, 1000 classes and all."""
    place = job.work / "pretrained"
    config = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=1000
    )
    network = ResNetForImageClassification(config)
    weights = scoring.float32_weights(job.weights)
    network.load_state_dict(_renamed(weights))
    _hold_equal(network.eval(), weights)
    network.save_pretrained(place)
    return place


def _hold_equal(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Renamed, the weights must still be those of torchvision's network: equal answers to an image of noise."""
    original = models.resnet18().eval()
    original.load_state_dict(weights)
    noise = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network(pixel_values=noise).logits, original(noise), rtol=1e-4, atol=1e-4)


def _renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's state dict of resnet18 under the names of transformers."""
    fresh = {}
    for name, tensor in weights.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        fresh[name] = tensor
    return fresh


def _transform(images_to_pixels: transforms.Compose) -> Any:
    def apply(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        pixels = [images_to_pixels(image.convert("RGB")) for image in batch["image"]]
        return {"pixel_values": pixels, "label": batch["label"]}

    return apply


def _trainer(job: Job, network: torch.nn.Module, train: Dataset, val: Dataset, test: DataLoader) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(job.work / "checkpoints"),
        remove_unused_columns=False,
        learning_rate=2e-5,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        logging_strategy="steps",
        logging_steps=10,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        save_total_limit=3,
        seed=1337,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    return Trainer(
        model=network,
        args=arguments,
        data_collator=_collate,
        train_dataset=train,
        eval_dataset=val,
        compute_metrics=lambda answers: {"accuracy": float((np.argmax(answers[0], axis=1) == answers[1]).mean())},
        callbacks=[Clock(job, test)],
    )


def _collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    pixels, labels = _pair(examples)
    return {"pixel_values": pixels, "labels": labels}


def _pair(examples: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.stack([example["pixel_values"] for example in examples])
    return pixels, torch.tensor([example["label"] for example in examples])


def _accuracy(network: torch.nn.Module, test: DataLoader) -> float:
    was_training = network.training
    network.eval()
    share = scoring.accuracy(lambda pixels: network(pixel_values=pixels).logits, test)
    network.train(was_training)
    return share


if __name__ == "__main__":
    main()
