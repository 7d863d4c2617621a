"""The trained network behind torch's own preprocessing: what the exported file must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pipeline.core.device import memory_format
from pipeline.data.loading import as_tensor
from pipeline.data.transforms import preprocess

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from pipeline.data.preprocessing import Preprocessing
    from pipeline.serving.parity import Reference


def reference(network: nn.Module, preprocessing: Preprocessing) -> Reference:
    """Images, uint8 [height, width, 3] of any sizes → probabilities, float32 [images, classes], by torch on the CPU.

    ``network`` is laid out channels last, which changes no value of it and is a tenth faster, one image at a time.
    """
    network.to(memory_format=memory_format(torch.device("cpu")))

    @torch.inference_mode()
    def probabilities(images: Sequence[np.ndarray]) -> np.ndarray:
        squares = torch.cat([preprocess(as_tensor(image)[None], preprocessing) for image in images])
        return network(squares).softmax(1).numpy()

    return probabilities
