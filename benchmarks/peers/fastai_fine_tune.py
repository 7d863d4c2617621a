"""fastai's way: ``vision_learner(dls, resnet18).fine_tune(4)``.

Its defaults: batches of 64, images cropped to 224, augmentation on the batch (``aug_transforms``), a head of two layers
on max and average pooling, Adam, one cycle for the head alone, then four epochs of all layers at discriminative rates.

https://docs.fast.ai/tutorial.vision.html
"""

from __future__ import annotations

import scoring
import torch
from fastai.vision.all import (
    Callback,
    CancelFitException,
    DataLoader,
    ImageDataLoaders,
    Learner,
    Resize,
    aug_transforms,
    get_image_files,
    load_learner,
    resnet18,
    set_seed,
    vision_learner,
)
from fastai.vision.all import accuracy as share_right
from job import Job, job_of

EPOCHS = 4


class Clock(Callback):
    """Scores each epoch with the clock standing still, and ends both of ``fine_tune``'s fits when time is up."""

    order = 100  # after the library's own callbacks, so that the epoch is complete

    def __init__(self, job: Job, test: DataLoader) -> None:
        super().__init__()
        self.job, self.test, self.epochs, self.is_complete = job, test, 0, False

    def before_fit(self) -> None:
        if self._over():
            raise CancelFitException

    def after_batch(self) -> None:
        if self.training and self.job.out_of_time:
            self._score()
            raise CancelFitException

    def after_epoch(self) -> None:
        self._score()
        self.is_complete = self.epochs == 1 + EPOCHS  # ``fine_tune`` trains the head alone for one before
        if self._over():
            raise CancelFitException

    def _score(self) -> None:
        self.epochs += 1
        with self.job.standing_still():
            self.job.scored(self.epochs, scoring.accuracy(self.learn.model.eval(), self.test))

    def _over(self) -> bool:
        return self.job.out_of_time or self.job.good_enough


def main() -> None:
    job = job_of("fastai")
    set_seed(0)
    with job.standing_still():
        scoring.lay_out_as_download(job.weights, job.work)
    job.phase_ends("start")
    data = ImageDataLoaders.from_folder(
        job.folder, train="train", valid="val", item_tfms=Resize(224), batch_tfms=aug_transforms()
    )
    learner = vision_learner(data, resnet18, metrics=share_right, path=job.work)
    job.phase_ends("data and network")
    clock = Clock(job, _test_batches(learner, job))
    with learner.no_bar():
        learner.fine_tune(EPOCHS, cbs=clock)
    job.training_ended(complete=clock.is_complete)
    job.phase_ends("train")
    learner.export(job.work / "export.pkl")
    job.phase_ends("export")
    saved = load_learner(job.work / "export.pkl")
    job.finish(scoring.accuracy(saved.model.eval(), _test_batches(saved, job)), ("fastai", "torch", "torchvision"))


def _test_batches(learner: Learner, job: Job) -> DataLoader:
    torch.manual_seed(0)
    return learner.dls.test_dl(get_image_files(job.folder / "test"), with_labels=True)


if __name__ == "__main__":
    main()
