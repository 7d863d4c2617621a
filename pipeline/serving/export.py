"""From a trained network to one ONNX file: preprocessing, network and softmax in a single graph.

Input ``images``: uint8 [batch, height, width, 3]. Outputs ``logits`` and ``probabilities``: float32 [batch, classes].
Batch, height and width are free; all images of one batch have one size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, compose, helper

from pipeline import __version__
from pipeline.models.onnx_graph import onnx_graph
from pipeline.serving.onnx_file import OnnxFile, encode_property
from pipeline.serving.preprocessing_graph import INPUT, OUTPUT, preprocessing_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import GraphProto, ModelProto
    from torch import nn

    from pipeline.data.preprocessing import Preprocessing

LOGITS = "logits"
PROBABILITIES = "probabilities"


def to_onnx(
    network: nn.Module, preprocessing: Preprocessing, classes: Sequence[str], metadata: dict[str, Any] | None = None
) -> OnnxFile:
    """Compile ``network`` with its preprocessing into one checked, self-contained file; equal inputs, equal bytes.

    Args:
        network: in eval mode, on the CPU; maps normalised float32 [B, 3, S, S] to logits [B, C].
        preprocessing: what lies between uint8 pixels and the network.
        classes: names in the order of the logits.
        metadata: further properties to write into the file.
    """
    core = onnx_graph(network, preprocessing.size_px, takes=OUTPUT, gives=LOGITS)
    front = helper.make_model(
        preprocessing_graph(preprocessing), opset_imports=core.opset_import, ir_version=core.ir_version
    )
    merged = compose.merge_models(front, core, io_map=[(OUTPUT, OUTPUT)], prefix1="preprocess/", name="graftline")
    _name_each_opset_once(merged)
    _name_interface(merged.graph, len(classes))
    _strip_origin(merged)
    properties = {"classes": list(classes), "preprocessing": preprocessing.model_dump(mode="json"), **(metadata or {})}
    helper.set_model_props(merged, {key: encode_property(value) for key, value in sorted(properties.items())})
    merged.producer_name, merged.producer_version = "graftline", __version__
    onnx.checker.check_model(merged, full_check=True)
    return OnnxFile(merged.SerializeToString(deterministic=True))


def _name_each_opset_once(model: ModelProto) -> None:
    """Merging keeps the entry of either graph; some readers refuse a domain that is named twice."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in sorted(versions.items()))


def _name_interface(graph: GraphProto, classes: int) -> None:
    """Append the softmax, and give the outside its plain names."""
    prefixed = f"preprocess/{INPUT}"
    for node in graph.node:
        node.input[:] = [INPUT if name == prefixed else name for name in node.input]
    graph.node.append(helper.make_node("Softmax", [LOGITS], [PROBABILITIES], name=PROBABILITIES, axis=-1))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", "height", "width", 3]))
    for name in (LOGITS, PROBABILITIES):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes]))


def _strip_origin(model: ModelProto) -> None:
    """Remove what the exporter notes about where the code lay on this machine: it is not part of the model."""
    model.doc_string = model.graph.doc_string = ""
    del model.graph.metadata_props[:], model.graph.value_info[:]
    for part in (*model.graph.node, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
