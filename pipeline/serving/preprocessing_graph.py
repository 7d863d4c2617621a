"""The preprocessing as an ONNX graph: uint8 images in, normalised pixels out.

The twin of :mod:`pipeline.data.transforms`, written node by node so that the file needs nothing but an ONNX runtime.
Both follow torchvision: the shorter side becomes ``resize_px``, the other ``int(resize_px * other / shorter)``,
bilinear with antialiasing; the crop starts at ``round((side - size_px) / 2)``, halves to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from pipeline.data.preprocessing import Preprocessing

INPUT = "images"
"""uint8 [batch, height, width, 3], sRGB."""

OUTPUT = "pixels"
"""float32 [batch, 3, size_px, size_px], normalised."""


def preprocessing_graph(preprocessing: Preprocessing) -> GraphProto:
    """The graph for ``preprocessing``; batch, height and width are free.

    Raises:
        ValueError: the crop is larger than the resized image, which would need padding.
    """
    if preprocessing.fit == "crop" and preprocessing.size_px > preprocessing.resize_px:
        raise ValueError(f"size_px={preprocessing.size_px} is larger than resize_px={preprocessing.resize_px}")
    graph = _Builder()
    graph.add("Transpose", [INPUT], "channels_first", perm=[0, 3, 1, 2])
    graph.add("Cast", ["channels_first"], "intensities", to=TensorProto.FLOAT)
    if preprocessing.fit == "stretch":
        _stretch(graph, preprocessing.size_px)
    else:
        _shorter_side(graph, preprocessing.resize_px)
        _centre_crop(graph, preprocessing.size_px)
    _normalise(graph, preprocessing.mean, preprocessing.std)
    side = preprocessing.size_px
    return helper.make_graph(
        graph.nodes,
        "preprocessing",
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", "height", "width", 3])],
        outputs=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3, side, side])],
        initializer=graph.constants,
    )


def _stretch(graph: _Builder, size_px: int) -> None:
    """Both sides become ``size_px``."""
    _resize(graph, graph.constant("sizes", [size_px, size_px]))
    graph.add("Identity", ["resized"], "cropped")


def _shorter_side(graph: _Builder, resize_px: int) -> None:
    """Shorter side to ``resize_px``; ``//`` on positive integers is torchvision's ``int(a / b)``."""
    graph.add("Shape", [INPUT], "size", start=1, end=3)
    graph.add("ReduceMin", ["size"], "shorter", keepdims=1)
    graph.add("Mul", ["size", graph.constant("resize_px", [resize_px])], "size_times_px")
    graph.add("Div", ["size_times_px", "shorter"], "sizes")
    _resize(graph, "sizes")


def _resize(graph: _Builder, sizes: str) -> None:
    """Bilinear over the last two axes; on a smaller output the kernel widens (antialiasing), as in Pillow and torch.

    ``exclude_outside`` leaves out what lies beyond the border. Without it ONNX repeats the border pixel, and the
    outermost pixels differ from torch's by up to 20 of 255.
    """
    graph.add(
        "Resize",
        ["intensities", "", "", sizes],
        "resized",
        axes=[2, 3],
        mode="linear",
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
    )


def _centre_crop(graph: _Builder, size_px: int) -> None:
    """The central square. ONNX's Round sends halves to even, like Python's."""
    side = graph.constant("size_px", [size_px])
    graph.add("Sub", ["sizes", side], "margin")
    graph.add("Cast", ["margin"], "margin_float", to=TensorProto.FLOAT)
    graph.add("Mul", ["margin_float", graph.constant("half", [0.5])], "half_margin")
    graph.add("Round", ["half_margin"], "start_float")
    graph.add("Cast", ["start_float"], "start", to=TensorProto.INT64)
    graph.add("Add", ["start", side], "end")
    graph.add("Slice", ["resized", "start", "end", graph.constant("axes", [2, 3])], "cropped")


def _normalise(graph: _Builder, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """``(x / 255 - mean) / std`` as one multiplication and one addition."""
    per_channel = np.array([mean, std], dtype=np.float64)[:, :, None, None]
    scale = graph.constant("scale", 1 / (255 * per_channel[1]))
    shift = graph.constant("shift", -per_channel[0] / per_channel[1])
    graph.add("Mul", ["cropped", scale], "scaled")
    graph.add("Add", ["scaled", shift], OUTPUT)


class _Builder:
    """Collects nodes and constants in the order in which they are written."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))

    def constant(self, name: str, values: object) -> str:
        """A named constant: whole numbers as int64, others as float32."""
        array = np.asarray(values)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name
