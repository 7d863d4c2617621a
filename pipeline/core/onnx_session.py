"""How ONNX Runtime is asked to compute, whoever asks. Never imports torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import SessionOptions


def session_options(threads: int) -> SessionOptions:
    """Options of a session whose results do not depend on timing; 0 threads mean one per physical core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores alone
    return options


@cache
def saturates() -> bool:
    """Whether 8-bit products are added up wrongly here: x86 without VNNI cuts sums of two off at 16 bits.

    ONNX Runtime has no call that tells, so it is given a sum to do: 255 · 127, 64 times.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    left, right = np.full((1, 64), 255, dtype=np.uint8), np.full((64, 64), 127, dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["left", "right"], ["sums"])],
        "sums",
        inputs=[helper.make_tensor_value_info("left", TensorProto.UINT8, left.shape)],
        outputs=[helper.make_tensor_value_info("sums", TensorProto.INT32, left.shape)],
        initializer=[numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])
    (sums,) = session.run(["sums"], {"left": left})
    return bool((sums != left.astype(int) @ right).any())
