"""The trained network behind torch's own preprocessing: what the exported file must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pipeline.core.device import memory_format
from pipeline.data.loading import as_tensor
from pipeline.data.transforms import preprocess
from pipeline.features.engines import recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from pipeline.data.manifest import Manifest
    from pipeline.data.preprocessing import Preprocessing
    from pipeline.features.table import FeatureTable
    from pipeline.models.network import Network, TrainedNetwork
    from pipeline.serving.parity import Reference

HEAD_BATCH = 64
"""Features that a head answers together: some compare each with thousands of others."""


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


@torch.inference_mode()
def known_answers(trained: TrainedNetwork, network: Network, table: FeatureTable, rows: Manifest) -> np.ndarray | None:
    """The network's answers to the images of ``rows``, float32 [images, classes], by its head alone.

    The table holds what the backbone makes of them. Against these answers the file is also held to what the head was
    fitted to. None where the table is not what :func:`reference` would compute: the backbone has learnt since, the
    features are rounded to half precision, come from a GPU or another engine than torch, or were computed before the
    code or a decoder changed: file and network would not see the same pixels.
    """
    facts, ours = table.facts, trained.facts
    is_same = (facts.backbone_digest, facts.preprocessing_digest) == (ours.backbone_digest, ours.preprocessing.digest)
    is_exact = (facts.dtype, facts.recipe) == ("float32", recipe("torch", "cpu"))
    if not (is_same and is_exact and trained.keeps_backbone):
        return None
    parts = torch.from_numpy(table.of(rows)).split(HEAD_BATCH)
    return torch.cat([network.head(features).softmax(1) for features in parts]).numpy()
