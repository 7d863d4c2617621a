"""ONNX files made to do harm: refused before a session is made, or stopped with a message while they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper
from PIL import Image
from refusals import assert_refused, in_this_process

from pipeline.core.errors import BundleError
from pipeline.serving import admission
from pipeline.serving import predictor as predictor_module
from pipeline.serving.onnx_file import OnnxFile
from pipeline.serving.predictor import Predictor

SECRET = b"\x00\x00\x80\x3f" * 3
"""Three float32 ones: what a stolen file would answer with."""

CLASSES = '["red", "green", "blue"]'


def numbers(name: str, *values: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def model(*nodes: NodeProto, weights: list[TensorProto] | None = None, **domains: int) -> ModelProto:
    """The mean of each colour in ``means`` [batch, 3]; ``nodes`` make ``logits`` of it."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            *nodes,
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "hostile",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [None, None, None, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("logits", "probabilities")],
        [numbers("axes", 1, 2), *(weights or [])],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in {"": 18, **domains}.items()]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = 10
    helper.set_model_props(made, {"classes": CLASSES})
    return made


HONEST = helper.make_node("Identity", ["means"], ["logits"])


def _outside(location: str, **more: str) -> ModelProto:
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return model(helper.make_node("Add", ["means", "stolen"], ["logits"]), weights=[tensor])


def _outside_in_an_attribute() -> ModelProto:
    (tensor,) = [entry for entry in _outside("canary.bin").graph.initializer if entry.name == "stolen"]
    constant = helper.make_node("Constant", [], ["stolen"], value=tensor)
    return model(constant, helper.make_node("Add", ["means", "stolen"], ["logits"]))


def _loop() -> ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    turns = helper.make_tensor("turns", TensorProto.INT64, [], [2**62])
    return model(helper.make_node("Loop", ["turns", "", "means"], ["logits"], body=body), weights=[turns])


def _branch() -> ModelProto:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["means"], ["chosen"])],
        "inner",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    when = helper.make_tensor("when", TensorProto.BOOL, [], [True])
    return model(helper.make_node("If", ["when"], ["logits"], then_branch=inner, else_branch=inner), weights=[when])


def _functions() -> ModelProto:
    """Each calls the one before it twice: forty of them make a million million nodes."""
    made = model(helper.make_node("f40", ["means"], ["logits"], domain="own"), own=1)
    for number in range(1, 41):
        called = f"f{number - 1}" if number > 1 else "Identity"
        domain = "own" if number > 1 else ""
        nodes = [
            helper.make_node(called, ["x"], ["y"], domain=domain),
            helper.make_node(called, ["y"], ["z"], domain=domain),
        ]
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        made.functions.append(helper.make_function("own", f"f{number}", ["x"], ["z"], nodes, opsets))
    return made


def _sparse() -> ModelProto:
    made = model(HONEST)
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numbers("where", 0), [10**13]))
    return made


def _sparse_in_an_attribute() -> ModelProto:
    value = _sparse().graph.sparse_initializer[0]
    return model(
        helper.make_node("Constant", [], ["sparse"], sparse_value=value),
        helper.make_node("Add", ["means", "sparse"], ["logits"]),
    )


def _hidden_graph() -> ModelProto:
    """In an attribute that its operator does not know."""
    inner = _branch().graph.node[2].attribute[0].g
    return model(helper.make_node("Identity", ["means"], ["logits"], hidden=inner))


def _training_steps() -> ModelProto:
    made = model(HONEST)
    made.training_info.add().algorithm.name = "steps"
    return made


def _opset(version: int) -> ModelProto:
    made = model(HONEST)
    made.opset_import[0].version = version
    return made


def _without(**changed: Any) -> ModelProto:
    made = model(HONEST)
    if "input" in changed:
        made.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    if "output" in changed:
        del made.graph.output[1]
    if "classes" in changed:
        helper.set_model_props(made, {"classes": changed["classes"]})
    return made


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "weights above the folder": (lambda: _outside("../canary.bin"), "weights outside the file ('stolen' in '../canary"),
    "weights at an absolute place": (lambda: _outside("/etc/hostname"), "('stolen' in '/etc/hostname')"),
    "weights beside the file": (lambda: _outside("canary.bin", offset="0", length="12"), "weights outside the file"),
    "weights in an attribute": (_outside_in_an_attribute, "weights outside the file"),
    "another domain's operator": (
        lambda: model(helper.make_node("Run", ["means"], ["logits"], domain="evil"), evil=1),
        "the operators of 'evil'",
    ),
    "a domain that is not imported": (
        lambda: model(helper.make_node("Run", ["means"], ["logits"], domain="evil")),
        "the operator Run of 'evil'",
    ),
    "ONNX Runtime's own operators": (
        lambda: model(helper.make_node("Gelu", ["means"], ["logits"], domain="com.microsoft"), **{"com.microsoft": 1}),
        "the operators of 'com.microsoft'",
    ),
    "an operator that there is not": (lambda: model(helper.make_node("Run", ["means"], ["logits"])), "there is not"),
    "an opset of the future": (lambda: _opset(9999), "one of opset 9999; opsets 7 to"),
    "an opset of the past": (lambda: _opset(1), "one of opset 1;"),
    "a loop": (_loop, "the operator Loop: a loop or a branch"),
    "a branch": (_branch, "the operator If: a loop or a branch"),
    "functions within functions": (_functions, "the operators of 'own'"),
    "sparse weights": (_sparse, "sparse weights"),
    "sparse values in an attribute": (_sparse_in_an_attribute, "sparse values in the operator Constant"),
    "a graph where none belongs": (_hidden_graph, "a graph within the operator Identity"),
    "training steps": (_training_steps, "functions or training steps of its own"),
    "chance": (
        lambda: model(helper.make_node("RandomNormalLike", ["means"], ["logits"])),
        "must not depend on chance",
    ),
    "too many nodes": (
        lambda: model(HONEST, *(helper.make_node("Neg", ["means"], [f"n{n}"]) for n in range(20_001))),
        "20,005 nodes, more than 20,000",
    ),
    "another input": (lambda: _without(input=True), "not uint8 'images'"),
    "an output too few": (lambda: _without(output=True), "without the output 'probabilities'"),
    "classes that are no JSON": (lambda: _without(classes='["red",'), "metadata cannot be read"),
    "classes that are no names": (lambda: _without(classes="[1, 2, 3]"), "no list of class names"),
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize(("make", "found"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_file_is_refused(
    make: Callable[[], ModelProto],
    found: str,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command, with what is wrong in it; ONNX Runtime is not asked where the file says enough."""
    folder = image.parent / "models"
    folder.mkdir()
    for place in (folder, image.parent):
        (place / "canary.bin").write_bytes(SECRET)
    (folder / "model.onnx").write_bytes(make().SerializeToString())
    monkeypatch.chdir(folder)
    answer = in_this_process(monkeypatch, capsys)("predict", "model.onnx", image)
    assert_refused(answer, "Graftline", found, "graftline run")
    assert "image.png" not in answer.said, "it was answered"


@pytest.mark.parametrize("content", [b"", b"\x07" * 999, b"\x18\x00\x00\x00ORTM" + bytes(99), b"\x0a" * 100_000])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    """ONNX Runtime's own format too: what cannot be looked into is not run."""
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="an ONNX file as Graftline exports it"):
        Predictor(tmp_path / "model.onnx")


def test_what_is_larger_than_an_onnx_file_can_be_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protobuf ends at two gigabytes, and reading takes a multiple of them."""
    content = model(HONEST).SerializeToString()
    monkeypatch.setattr(admission, "MAX_BYTES", len(content) - 1)
    with pytest.raises(BundleError, match=r"found one of 0\.0 GB; ONNX files end at 2\.1 GB"):
        Predictor(OnnxFile(content))
    monkeypatch.setattr(admission, "MAX_BYTES", len(content))
    assert Predictor(OnnxFile(content))


def test_a_file_out_of_the_registry_is_looked_at_too() -> None:
    """A champion is handed over as bytes; where they come from makes no difference."""
    with pytest.raises(BundleError, match="the operator Loop"):
        Predictor(OnnxFile(_loop().SerializeToString()))


# -- memory and time ---------------------------------------------------------------------------------------------------


def _grown(factor: int) -> ModelProto:
    """Sums zeros whose number is worked out from the image's size, so that no look into the file tells it."""
    return model(
        helper.make_node("Shape", ["images"], ["sizes"]),
        helper.make_node("ReduceProd", ["sizes"], ["count"], keepdims=1),
        helper.make_node("Mul", ["count", "factor"], ["many"]),
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["means", "zero"], ["logits"]),
        weights=[numbers("factor", factor)],
    )


def _constant() -> ModelProto:
    """The number stands in the file, so that ONNX Runtime could work it out while it loads."""
    return model(
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["means", "zero"], ["logits"]),
        weights=[numbers("many", 10**12)],
    )


def _expanded() -> ModelProto:
    return model(
        helper.make_node("Expand", ["means", "shape"], ["wide"]),
        helper.make_node("ReduceMax", ["wide", "zero"], ["logits"], keepdims=0),
        weights=[numbers("shape", 10**12, 1, 3), numbers("zero", 0)],
    )


@pytest.mark.parametrize(
    "make", [_constant, lambda: _grown(10**10), _expanded], ids=["a constant", "grown from the image", "expanded"]
)
def test_terabytes_are_not_given(
    make: Callable[[], ModelProto], image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says how much a model is given; the process goes on."""
    file = image.parent / "model.onnx"
    file.write_bytes(make().SerializeToString())
    answer = in_this_process(monkeypatch, capsys)("predict", file, image)
    assert_refused(answer, "needs more memory for one batch than the", "GB it is given", str(file))


def test_the_limit_is_the_process_share_and_not_what_the_system_grants(image: Path) -> None:
    """A little more than the share, which a system that promises more than it has would grant, is refused as well."""
    file = image.parent / "model.onnx"
    images = np.zeros((1, 8, 8, 3), np.uint8)
    file.write_bytes(_grown(1).SerializeToString())
    Predictor(file).run(images)

    share = predictor_module._memory_share()
    file.write_bytes(_grown(int(1.1 * share / 4 / images.size)).SerializeToString())
    with pytest.raises(BundleError, match="needs more memory"):
        Predictor(file).run(images)


def test_constants_do_not_pile_up_while_a_file_is_loaded(image: Path) -> None:
    """Twenty of 40 MB each would lie in memory before the first image; large ones wait until they are asked for."""
    import psutil

    nodes, before = [], "means"
    for number in range(20):
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [float(number)])
        nodes += [
            helper.make_node("ConstantOfShape", ["many"], [f"c{number}"], value=value),
            helper.make_node("Slice", [f"c{number}", "first", "third"], [f"few{number}"]),
            helper.make_node("Mul", [f"c{number}", "floats_sum"], [f"used{number}"]),
            helper.make_node("Slice", [f"used{number}", "first", "third"], [f"part{number}"]),
            helper.make_node("Add", [before, f"part{number}"], [f"sum{number}" if number < 19 else "logits"]),
        ]
        before = f"sum{number}"
    nodes.insert(0, helper.make_node("ReduceSum", ["floats"], ["floats_sum"], keepdims=0))
    weights = [numbers("many", 10**7), numbers("first", 0), numbers("third", 3)]
    file = image.parent / "model.onnx"
    file.write_bytes(model(*nodes, weights=weights).SerializeToString())
    memory = psutil.Process().memory_info().rss
    Predictor(file)
    assert psutil.Process().memory_info().rss - memory < 200e6


def test_a_call_that_goes_on_is_stopped(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two operators, when its time is over."""
    monkeypatch.setattr(predictor_module, "LONGEST_CALL_S", 0.2)
    nodes = [helper.make_node("Expand", ["floats_sum", "shape"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{n}", f"x{n}"], [f"x{n + 1}"]) for n in range(500)]
    nodes += [
        helper.make_node("ReduceMax", ["x500"], ["top"], keepdims=0),
        helper.make_node("Add", ["means", "top"], ["logits"]),
    ]
    nodes.insert(0, helper.make_node("ReduceSum", ["floats"], ["floats_sum"], keepdims=0))
    file = image.parent / "model.onnx"
    file.write_bytes(model(*nodes, weights=[numbers("shape", 700, 700)]).SerializeToString())
    with pytest.raises(BundleError, match="took longer than 0 s for one batch"):
        Predictor(file).run(np.zeros((1, 8, 8, 3), np.uint8))


def test_an_honest_file_answers_the_same_with_limits_and_without(image: Path) -> None:
    """The limits change no answer."""
    content = model(HONEST)
    onnx.checker.check_model(content)
    file = image.parent / "model.onnx"
    file.write_bytes(content.SerializeToString())
    batch = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)
    limited, free = Predictor(file).run(batch), Predictor(OnnxFile(file.read_bytes())).run(batch)
    assert (limited.logits == free.logits).all()
    np.testing.assert_allclose(batch.mean((1, 2)), limited.logits, rtol=1e-5)
