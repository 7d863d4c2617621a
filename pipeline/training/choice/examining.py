"""What both ways of choosing do with a contender: fit it to a part of the task, and take its answers to the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pipeline.core.context import Context
from pipeline.data.manifest import Manifest
from pipeline.models.network import Network
from pipeline.training.choice import answering
from pipeline.training.choice.budget import Budget
from pipeline.training.choice.contest import Contender
from pipeline.training.choice.trying import Attempt, attempt
from pipeline.training.task import Task


@dataclass(frozen=True)
class Examiner:
    """The task, the candidates' settings by their name, and the budget that their fits are charged to."""

    task: Task
    settings: dict[str, dict[str, Any]]
    budget: Budget
    context: Context
    device: torch.device

    def fit(self, contender: Contender, task: Task, *, part: str = "whole", to_the_end: bool) -> Attempt | None:
        """Fit to ``task``, this one or a part of it; None, and the contender refused, where that failed, or cut where
        (unless it may train ``to_the_end``) it took longer than what is left of the budget."""
        settings = self.settings.get(contender.strategy, {})
        deadline_s = None if to_the_end else time.time() + self.budget.left_s
        context = replace(self.context, deadline_s=deadline_s)
        tried = attempt(task, contender.strategy, contender.repeat, settings, context, part=part)
        self.budget.charge(tried.seconds)
        if tried.is_cut:
            contender.cut(tried.failure or "The budget was spent.")
            return None
        if tried.fitted is None:
            contender.refuse(tried.failure or "It could not be fitted.")
            return None
        contender.trials.append(tried.trial)
        return tried

    def logits(self, network: Network, manifest: Manifest) -> np.ndarray:
        """Answers to target images, float32 [n, classes]; their labels are not looked at."""
        images, features = self.task.unlabelled(manifest), self.task.target_features.of(manifest)
        return answering.logits(network, images, features, self.task, self.device)

    def skip(self, contender: Contender) -> None:
        contender.settle("not tried", f"The budget of {self.budget.minutes:g} minutes was spent.")
        print(f"  auto · {contender.name}: not tried; {contender.why[0].lower()}{contender.why[1:]}", flush=True)
