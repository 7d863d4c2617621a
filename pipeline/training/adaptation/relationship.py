"""How the classes of a checkpoint relate to the target's, and learning both at once: what ``co_tuning`` minimises."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.models.heads import LinearHead
from pipeline.models.network import Network
from pipeline.training.objectives import Batch, Objective
from pipeline.training.phases import Phase
from pipeline.training.task import Labelled


def relationship(head: LinearHead, data: Labelled, classes: int) -> NDArray[np.float32]:
    """p(y_s | y_t): row c is the mean of softmax(head(features)) over the images of target class c.

    float32 [classes, head's classes]. A class without images gets the mean of the other rows.
    """
    with torch.no_grad():
        answers = torch.softmax(head(torch.from_numpy(np.asarray(data.features, np.float32))), dim=1).numpy()
    known = np.unique(data.labels)
    rows = np.zeros((classes, answers.shape[1]), np.float32)
    rows[known] = [answers[data.labels == label].mean(axis=0) for label in known]
    rows[np.setdiff1d(np.arange(classes), known)] = rows[known].mean(axis=0)
    return rows


class CoTuning(Objective):
    """CE(head(f), y) + trade_off · mean_i( −Σ_s p(s | y_i) · log softmax(source_head(f_i))_s ).

    ``rows`` [classes, source classes] are p; the source's head is trained along and dropped afterwards.
    """

    rows: Tensor

    def __init__(
        self, source_head: LinearHead, rows: NDArray[np.float32], trade_off: float, learning_rate: float
    ) -> None:
        super().__init__()
        self.source_head, self.trade_off, self.learning_rate = source_head, trade_off, learning_rate
        self.register_buffer("rows", torch.from_numpy(rows))

    def loss(self, network: Network, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        features = network.backbone(batch.images)
        logits = network.head(features)
        target_loss = functional.cross_entropy(logits, batch.labels, label_smoothing=phase.label_smoothing)
        source_loss = functional.cross_entropy(self.source_head(features), self.rows[batch.labels])
        return {
            "loss": target_loss + self.trade_off * source_loss,
            "target_loss": target_loss,
            "source_loss": source_loss,
        }
