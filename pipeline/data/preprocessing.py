"""The one definition of preprocessing: what happens between decoded pixels and the backbone.

:class:`Preprocessing` is data. :func:`pipeline.data.transforms` applies it with torch in training and feature
extraction; ``pipeline.serving.preprocessing_graph`` compiles it into the ONNX file. A test holds the two equal.
"""

from __future__ import annotations

from typing import Literal

from pipeline.core import digests
from pipeline.core.params import Params


class Preprocessing(Params):
    """uint8 RGB in; resize, centre crop, scale to [0, 1], normalise.

    ``fit = "crop"``: the shorter side becomes ``resize_px``, then the central ``size_px`` square is taken (the
    ImageNet convention). ``fit = "stretch"``: both sides become ``size_px``; nothing is cut off (for digits and other
    images whose borders matter).
    """

    size_px: int
    resize_px: int
    fit: Literal["crop", "stretch"] = "crop"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def digest(self) -> str:
        return digests.of_json(self.model_dump())
