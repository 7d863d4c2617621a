"""Static int8 quantisation of an exported file: 8-bit weights and activations around the network's heavy operators.

Each quantised tensor x becomes round(x / scale) + zero_point. Weights: int8, symmetric, one scale per output channel.
Activations: uint8, one scale per tensor, from the smallest and largest value over the calibration images (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). The file is
in QDQ form: ``QuantizeLinear``/``DequantizeLinear`` pairs that ONNX Runtime fuses into integer kernels
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), so it runs wherever the original does.

The choices were measured, see ``docs/quantisation.md``. Whether a file is good enough to ship is decided in
:mod:`pipeline.serving.int8_trial`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from pipeline.serving.onnx_file import OnnxFile
from pipeline.serving.predictor import batches_by_size
from pipeline.serving.preprocessing_graph import INPUT

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

HEAVY = ["Conv", "Gemm", "MatMul"]

FOLDED = ["Relu", "Clip"]
"""Activations right behind a heavy operator end in its output's range. Left out, MobileNetV2's convolutions spend their
8 bits on values that ReLU6 cuts off, and it loses 2 points."""

PREPROCESSING = "preprocess/"
"""Prefix of the nodes that stay float."""

BATCH = 8
"""Images per calibration call; min and max do not depend on it."""

# ONNX Runtime's quantiser warns unless the graph went through its optimiser. The exporter has folded BatchNorm and
# constants already, which is what that is for; the property is not part of the result.
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def quantise(model: OnnxFile, images: Iterable[np.ndarray]) -> OnnxFile:
    """The file in int8: same inputs, outputs and metadata, and ``precision: int8`` in the latter.

    Equal files and images give equal bytes.

    Args:
        model: as :func:`pipeline.serving.export.to_onnx` makes it.
        images: for calibration, uint8 [height, width, 3] of any sizes, at least one; read once, a few at a time.
    """
    original = onnx.load_model_from_string(model.content)
    kept = [node.name for node in original.graph.node if node.name.startswith(PREPROCESSING)]
    with tempfile.TemporaryDirectory(prefix="graftline-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            _prepared(model),
            path,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=HEAVY + FOLDED,
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=False,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantised = onnx.load(path)
    _introduce(quantised, original)
    onnx.checker.check_model(quantised, full_check=True)
    return OnnxFile(quantised.SerializeToString(deterministic=True))


class _Calibration(CalibrationDataReader):
    """Hands the images out in batches of one size, as ONNX Runtime asks for them."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._batches = batches_by_size(images, BATCH)

    def get_next(self) -> dict[str, np.ndarray] | None:
        _, batch = next(self._batches, (None, None))
        return None if batch is None else {INPUT: batch}


def _prepared(model: OnnxFile) -> ModelProto:
    """A copy that the quantiser accepts."""
    copy = onnx.load_model_from_string(model.content)
    copy.metadata_props.add(key=PREPARED[0], value=PREPARED[1])
    return copy


def _introduce(quantised: ModelProto, original: ModelProto) -> None:
    """Let the file say what the original says of itself, and that it is int8; drop the quantiser's notes."""
    properties = {entry.key: entry.value for entry in original.metadata_props} | {"precision": "int8"}
    del quantised.metadata_props[:], quantised.graph.value_info[:]
    helper.set_model_props(quantised, dict(sorted(properties.items())))
    quantised.producer_name, quantised.producer_version = original.producer_name, original.producer_version
