"""A plain script, after PyTorch's tutorial "Transfer Learning for Computer Vision".

Its recipe: random crops and mirroring, batches of 4, SGD (rate 0.001, momentum 0.9), the rate a tenth after every 7
epochs, 25 epochs, the state with the best validation accuracy kept. ``--frozen`` is its second scenario: only the new
last layer learns. Loader processes: two instead of four, as the loader itself advises on two cores.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import scoring
import torch
from job import Job, job_of
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

EPOCHS, BATCH = 25, 4
NORMALISE = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *NORMALISE])
SCORE = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *NORMALISE])


def main() -> None:
    job = job_of("torchvision", "--frozen")
    torch.manual_seed(0)
    with job.standing_still():
        scoring.lay_out_as_download(job.weights, job.work)
    job.phase_ends("start")
    loaders = {split: _loader(job, split) for split in ("train", "val", "test")}
    network = _pretrained(len(loaders["train"].dataset.classes), frozen=job.options.frozen)  # type: ignore[attr-defined]
    job.phase_ends("data and network")
    best = job.work / "best.pt"
    _train(job, network, loaders, best)
    job.phase_ends("train")
    final = models.resnet18()
    final.fc = nn.Linear(final.fc.in_features, network.fc.out_features)
    final.load_state_dict(torch.load(best, weights_only=True))
    job.phase_ends("best state loaded")
    job.finish(scoring.accuracy(final.eval(), loaders["test"]), ("torch", "torchvision"))


def _loader(job: Job, split: str) -> DataLoader:
    images = datasets.ImageFolder(str(job.folder / split), TRAIN if split == "train" else SCORE)
    return DataLoader(images, batch_size=BATCH, shuffle=split == "train", num_workers=min(4, os.cpu_count() or 1))


def _pretrained(classes: int, *, frozen: bool) -> models.ResNet:
    network = models.resnet18(weights="IMAGENET1K_V1")
    if frozen:
        network.requires_grad_(False)
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network


def _train(job: Job, network: models.ResNet, loaders: dict[str, DataLoader], best: Path) -> None:
    optimizer = optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best_accuracy = -1.0
    for epoch in range(1, EPOCHS + 1):
        network.train()
        batches = 0
        for images, labels in _until_out_of_time(job, loaders["train"]):
            batches += 1
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        scheduler.step()
        validation = scoring.accuracy(network.eval(), loaders["val"])
        if validation > best_accuracy:
            best_accuracy = validation
            torch.save(network.state_dict(), best)
        with job.standing_still():
            job.scored(epoch, scoring.accuracy(network, loaders["test"]))
        if job.out_of_time or job.good_enough:
            break
    job.training_ended(complete=epoch == EPOCHS and batches == len(loaders["train"]))


def _until_out_of_time(job: Job, loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in loader:
        yield batch
        if job.out_of_time:
            return


if __name__ == "__main__":
    main()
