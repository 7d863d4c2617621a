"""What an ONNX file may hold before ONNX Runtime is given it. Never imports torch.

A file from outside is a program. Ours are one straight graph of standard operators with every weight inside, and
nothing else is let in: no weights in other files, no operators of other domains, no functions, no loops or branches
(three lines of a file can ask for a lifetime of work), no chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.core.errors import BundleError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

DOMAINS = ("", "ai.onnx")
"""Both are the standard operators'."""

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})

CHANCE = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)

OLDEST_OPSET = 7
"""ONNX Runtime runs none before it as written."""

MAX_NODES = 20_000
"""Ours have some hundreds; a thousand constants that are each computed while the file is loaded are a bomb."""

MAX_BYTES = 2**31 - 1
"""What a protobuf message can be."""

INPUT, OUTPUTS = "images", ("logits", "probabilities")


def check(content: bytes, origin: str) -> None:
    """See that a file holds nothing but what ours do; no session is made.

    Raises:
        BundleError: it holds something else; the message names it.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(content) > MAX_BYTES:
        raise _refused(origin, f"one of {len(content) / 1e9:.1f} GB; ONNX files end at 2.1 GB")
    if content[4:8] == b"ORTM":
        raise _refused(origin, "one in ONNX Runtime's own format, which cannot be looked into")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise _refused(origin, "one that cannot be read as ONNX") from None
    for problem in _problems(model):
        raise _refused(origin, problem)


def _problems(model: ModelProto) -> Iterator[str]:
    """What is wrong with the file, each as a clause that fits after "found"."""
    yield from _opset_problems(model)
    if model.functions or model.training_info:
        yield "one with functions or training steps of its own"
    if len(model.graph.node) > MAX_NODES:
        yield f"one with {len(model.graph.node):,} nodes, more than {MAX_NODES:,}"
    yield from _graph_problems(model.graph)
    yield from _interface_problems(model.graph)


def _opset_problems(model: ModelProto) -> Iterator[str]:
    from onnx import defs

    newest = defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain not in DOMAINS:
            yield f"one that asks for the operators of '{entry.domain}'"
        elif not OLDEST_OPSET <= entry.version <= newest:
            yield f"one of opset {entry.version}; opsets {OLDEST_OPSET} to {newest} are known"
    if not any(entry.domain in DOMAINS for entry in model.opset_import):
        yield "one that says of no opset which operators it means"


def _graph_problems(graph: GraphProto) -> Iterator[str]:
    for tensor in graph.initializer:
        yield from _tensor_problems(tensor)
    if graph.sparse_initializer:
        yield "one with sparse weights, which a few bytes can make as large as they like"
    for node in graph.node:
        yield from _node_problems(node)


def _node_problems(node: NodeProto) -> Iterator[str]:
    from onnx import defs

    if node.domain not in DOMAINS:
        yield f"the operator {node.op_type} of '{node.domain}', which is not a standard one"
    elif not defs.has(node.op_type):
        yield f"the operator {node.op_type}, which there is not"
    elif node.op_type in CONTROL_FLOW:
        yield f"the operator {node.op_type}: a loop or a branch can go on without end"
    elif node.op_type in CHANCE:
        yield f"the operator {node.op_type}: an answer must not depend on chance"
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            yield f"a graph within the operator {node.op_type}"
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            yield f"sparse values in the operator {node.op_type}"
        for tensor in (attribute.t, *attribute.tensors):
            yield from _tensor_problems(tensor)


def _tensor_problems(tensor: TensorProto) -> Iterator[str]:
    if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        yield f"weights outside the file ('{tensor.name}' in '{''.join(places[:1])}')"


def _interface_problems(graph: GraphProto) -> Iterator[str]:
    """Ours are asked for two outputs, by name, for uint8 images."""
    from onnx import TensorProto

    weights = {tensor.name for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in weights]
    if [value.name for value in given] != [INPUT] or _kind(given[0]) != (TensorProto.UINT8, 4):
        yield f"one whose input is not uint8 '{INPUT}' [batch, height, width, 3]"
    if missing := set(OUTPUTS) - {value.name for value in graph.output}:
        yield f"one without the output '{min(missing)}'"


def _kind(value: ValueInfoProto) -> tuple[int, int]:
    tensor = value.type.tensor_type
    return tensor.elem_type, len(tensor.shape.dim)


def _refused(origin: str, found: str) -> BundleError:
    return BundleError(
        expected="an ONNX file as Graftline exports it: one graph of standard operators, every weight inside",
        found=found,
        where=origin,
        remedy="Give a file that 'graftline run' made, such as handoff/current; what others make is not run.",
    )
