"""The preprocessing as an ONNX graph: uint8 images in, normalised pixels out.

The twin of :mod:`pipeline.data.transforms`, written node by node so that the file needs nothing but an ONNX runtime.
Both follow torchvision: the shorter side becomes ``resize_px``, the other ``int(resize_px * other / shorter)``,
bilinear with antialiasing; the crop starts at ``round((side - size_px) / 2)``, halves to even.

Resizing is linear, so along either axis it is a product with a matrix of weights, and cropping is leaving out rows of
that matrix. Nearly all of it is zeros: a pixel of the result depends on a few neighbours, its taps. So the result is
cut into blocks of some :data:`BLOCK` lines; a block gathers the taps that its lines share and multiplies them by a
small dense matrix. The same values come from ONNX's Resize with ``antialias=1``, ``exclude_outside=1``, a Slice behind
it; ONNX Runtime computes that one value after the other, for pixels that are cut off too, and took twice the time.
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

BLOCK = 8
"""Lines that share their taps, at most: fewer gather a pixel more often, more multiply more zeros."""

ROWS, COLUMNS = "rows", "columns"


def preprocessing_graph(preprocessing: Preprocessing) -> GraphProto:
    """The graph for ``preprocessing``; batch, height and width are free, from 1 on.

    Raises:
        ValueError: the crop is larger than the resized image, which would need padding.
    """
    if preprocessing.fit == "crop" and preprocessing.size_px > preprocessing.resize_px:
        raise ValueError(f"size_px={preprocessing.size_px} is larger than resize_px={preprocessing.resize_px}")
    graph, side = _Builder(), preprocessing.size_px
    graph.add("Shape", [INPUT], "sides", start=1, end=3)
    graph.add("Unsqueeze", ["sides", [1, 2, 3]], "size")
    graph.add("Cast", ["size"], "length", to=TensorProto.FLOAT)
    if preprocessing.fit == "stretch":
        _stretch(graph, side)
    else:
        _shorter_side(graph, preprocessing.resize_px)
        _centre_crop(graph, side)
    _place_blocks(graph, side)
    _weigh_taps(graph, ROWS, 0)
    _weigh_taps(graph, COLUMNS, 1)
    _leave_out_columns(graph)
    _resample(graph, "seen", [0, 0, -1], ROWS, side)
    _resample(graph, "rows/turned", [0, -1, 3 * side], COLUMNS, side)
    graph.add("Reshape", ["columns/turned", [0, 3, side, side]], "resized")
    _normalise(graph, preprocessing.mean, preprocessing.std)
    return helper.make_graph(
        graph.nodes,
        "preprocessing",
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", "height", "width", 3])],
        outputs=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3, side, side])],
        initializer=graph.constants,
    )


def _stretch(graph: _Builder, size_px: int) -> None:
    """Both sides become ``size_px``."""
    graph.add("Div", ["length", float(size_px)], "ratio")
    graph.add("Identity", [0.0], "start")


def _shorter_side(graph: _Builder, resize_px: int) -> None:
    """Shorter side to ``resize_px``; ``//`` on positive integers is torchvision's ``int(a / b)``."""
    graph.add("ReduceMin", ["size"], "shorter", keepdims=1)
    graph.add("Mul", ["size", resize_px], "size_times_px")
    graph.add("Div", ["size_times_px", "shorter"], "resized_size")
    graph.add("Cast", ["resized_size"], "resized_length", to=TensorProto.FLOAT)
    graph.add("Div", ["length", "resized_length"], "ratio")


def _centre_crop(graph: _Builder, size_px: int) -> None:
    """Where the central square starts. ONNX's Round sends halves to even, like Python's."""
    graph.add("Sub", ["resized_length", float(size_px)], "margin")
    graph.add("Mul", ["margin", 0.5], "half_margin")
    graph.add("Round", ["half_margin"], "start")


def _place_blocks(graph: _Builder, size_px: int) -> None:
    """For both axes: the ``centre`` of each line [2, blocks, lines, 1], its ``reach`` to either side [2, 1, 1, 1], the
    ``lowest`` edge of a block's taps [2, blocks, 1, 1] and their number [2, 1, 1, 1]; all but the last in pixels.

    On a smaller output the kernel widens (antialiasing), as in Pillow and torch.
    """
    lines = _lines(size_px)
    graph.add("Add", ["start", lines + 0.5], "line")
    graph.add("Mul", ["line", "ratio"], "centre")
    graph.add("Max", ["ratio", 1.0], "reach")
    graph.add("Slice", ["centre", [0], [1], [2]], "first_centre")
    graph.add("Sub", ["first_centre", "reach"], "lowest_reached")
    graph.add("Floor", ["lowest_reached"], "lowest")
    graph.add("Mul", ["ratio", lines.shape[1] - 1.0], "between_centres")
    graph.add("Sum", ["between_centres", "reach", "reach"], "reached")
    graph.add("Ceil", ["reached"], "whole_pixels")
    graph.add("Add", ["whole_pixels", 1.0], "taps")


def _lines(size_px: int) -> np.ndarray:
    """Numbers of the lines in blocks of equal size [blocks, lines, 1]; the last block may go beyond the result."""
    blocks = -(-size_px // BLOCK)
    return np.arange(blocks * -(-size_px // blocks)).reshape(blocks, -1, 1)


def _weigh_taps(graph: _Builder, axis: str, number: int) -> None:
    """The ``index`` of each block's taps [blocks, taps] and their ``weights`` in each line [blocks, lines, taps].

    The kernel is a triangle. What lies beyond the border weighs nothing and the others make up for it: repeating the
    border's pixel instead would move the outermost pixels from torch's by up to 20 of 255.
    """

    def add(operator: str, inputs: list[Any], output: str, **attributes: Any) -> str:
        return graph.add(operator, inputs, f"{axis}/{output}", **attributes)

    centre, reach, lowest, length, taps = (
        add("Gather", [name, number], name) for name in ("centre", "reach", "lowest", "length", "taps")
    )
    steps = add("Range", [0.5, add("Squeeze", [taps], "count"), 1.0], "steps")
    place = add("Add", [lowest, steps], "place")
    from_first = add("Max", [place, 0.5], "from_first")
    pixel = add("Min", [from_first, add("Sub", [length, 0.5], "last")], "pixel")
    inside = add("Cast", [add("Equal", [place, pixel], "is_inside")], "inside", to=TensorProto.FLOAT)
    distance = add("Abs", [add("Sub", [place, centre], "offset")], "distance")
    triangle = add("Max", [add("Sub", [reach, distance], "height"), 0.0], "triangle")
    kernel = add("Mul", [triangle, inside], "kernel")
    add("Div", [kernel, add("ReduceSum", [kernel, [2]], "total", keepdims=1)], "weights")
    add("Cast", [add("Squeeze", [pixel, [1]], "pixels")], "index", to=TensorProto.INT64)


def _leave_out_columns(graph: _Builder) -> None:
    """Columns of the image that no tap reads need not be resized along the other axis: ``seen``, ``columns/seen``."""
    graph.add("ReduceMin", ["columns/index"], "first_column", keepdims=1)
    graph.add("ReduceMax", ["columns/index"], "last_column", keepdims=1)
    graph.add("Add", ["last_column", 1], "end_column")
    graph.add("Squeeze", ["first_column", [0]], "from")
    graph.add("Squeeze", ["end_column", [0]], "to")
    graph.add("Slice", [INPUT, "from", "to", [2]], "seen")
    graph.add("Sub", ["columns/index", "from"], "columns/seen")
    graph.add("Identity", ["rows/index"], "rows/seen")


def _resample(graph: _Builder, values: str, shape: list[int], axis: str, size_px: int) -> None:
    """``values``, taken as ``shape`` [batch, lines, others] → ``axis/turned`` [batch, others, size_px]."""
    lines = _lines(size_px).size
    graph.add("Reshape", [values, shape], f"{axis}/lines")
    graph.add("Gather", [f"{axis}/lines", f"{axis}/seen"], f"{axis}/gathered", axis=1)
    graph.add("Cast", [f"{axis}/gathered"], f"{axis}/intensities", to=TensorProto.FLOAT)
    graph.add("MatMul", [f"{axis}/weights", f"{axis}/intensities"], f"{axis}/blocks")
    resampled = graph.add("Reshape", [f"{axis}/blocks", [0, lines, -1]], f"{axis}/joined")
    if lines > size_px:
        resampled = graph.add("Slice", [resampled, [0], [size_px], [1]], f"{axis}/resampled")
    graph.add("Transpose", [resampled], f"{axis}/turned", perm=[0, 2, 1])


def _normalise(graph: _Builder, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """``(x / 255 - mean) / std`` as one multiplication and one addition."""
    per_channel = np.array([mean, std], dtype=np.float64)[:, :, None, None]
    graph.add("Mul", ["resized", 1 / (255 * per_channel[1])], "scaled")
    graph.add("Add", ["scaled", -per_channel[0] / per_channel[1]], OUTPUT)


class _Builder:
    """Collects nodes, and the constants among their inputs, in the order in which they are written."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, inputs: list[Any], output: str, **attributes: Any) -> str:
        """A node named like its output; inputs are names, or values that become constants."""
        names = [
            value if isinstance(value, str) else self._constant(f"{output}/input{place}", value)
            for place, value in enumerate(inputs)
        ]
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, values: object) -> str:
        """Whole numbers as int64, others as float32."""
        array = np.asarray(values)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name
