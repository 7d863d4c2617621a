"""The trained network as a subject of questions: images in the sizes they come, and everything on one device."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pipeline.core.device import memory_format
from pipeline.data.loading import as_tensor
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import normalise, prepared_square, training_side_px
from pipeline.models.network import Network


class Subject:
    """A network in eval mode with its preprocessing and class names. Tensors come and go on its device."""

    def __init__(
        self, network: Network, preprocessing: Preprocessing, classes: list[str], device: torch.device
    ) -> None:
        self.network = network.to(device).to(memory_format=memory_format(device))
        self.preprocessing, self.classes, self.device = preprocessing, classes, device

    @property
    def side_px(self) -> int:
        """Of the prepared squares."""
        return self.preprocessing.size_px

    @property
    def resize_px(self) -> int:
        """The shorter side that images are brought to before the crop."""
        return training_side_px(self.preprocessing)

    def squares(self, images: Iterable[np.ndarray]) -> Tensor:
        """Decoded images of any sizes, uint8 [H, W, 3] each → prepared squares, float32 [B, 3, S, S] in [0, 255]."""
        prepared = [prepared_square(as_tensor(image)[None], self.preprocessing) for image in images]
        return torch.cat(prepared).to(self.device)

    def normalised(self, squares: Tensor) -> Tensor:
        """What the network sees of prepared squares."""
        return normalise(squares, self.preprocessing)

    def logits(self, squares: Tensor) -> Tensor:
        """Prepared squares [B, 3, S, S] → logits [B, classes]; differentiable where the network is."""
        return self.network(self.normalised(squares))

    @torch.no_grad()
    def answers(self, squares: Tensor) -> np.ndarray:
        """Class numbers of the answers, int64 [B]."""
        return self.logits(squares).argmax(1).cpu().numpy()

    @torch.no_grad()
    def features(self, squares: Tensor) -> np.ndarray:
        """What the backbone makes of prepared squares, float32 [B, feature_dim]."""
        return self.network.backbone(self.normalised(squares)).float().cpu().numpy()

    @torch.no_grad()
    def answers_of(self, features: np.ndarray) -> np.ndarray:
        """Class numbers that the head answers for ``features`` [B, feature_dim], int64 [B]."""
        return self.network.head(torch.from_numpy(features).to(self.device)).argmax(1).cpu().numpy()

    @torch.no_grad()
    def probabilities(self, squares: Tensor) -> np.ndarray:
        """Float32 [B, classes]."""
        return self.logits(squares).softmax(1).cpu().numpy()
