"""int8: the same interface and metadata, deterministic bytes, nearly the same answers, and a loadable file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.onnx_session import saturates
from pipeline.data.preprocessing import Preprocessing
from pipeline.serving import predictor, triton
from pipeline.serving.export import to_onnx
from pipeline.serving.golden import Golden, tolerance
from pipeline.serving.predictor import Predictor
from pipeline.serving.quantisation import quantise

RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.integers(0, 256, (size, size + 3, 3), dtype=np.uint8) for size in [20] * 9 + [31] * 4 + [60]]


@pytest.fixture(scope="module")
def int8(tiny_model):
    return quantise(tiny_model, IMAGES)


def interface(model):
    session = Predictor(model).session
    return [(end.name, end.type, end.shape) for end in (*session.get_inputs(), *session.get_outputs())]


def test_interface_and_metadata_stay(tiny_model, int8):
    """Names, types and free dimensions are the original's; the metadata gains its precision and nothing else."""
    assert interface(tiny_model) == interface(int8)
    assert {**tiny_model.metadata, "precision": "int8"} == int8.metadata
    proto = onnx.load_model_from_string(int8.content)
    assert "graftline" == proto.producer_name
    assert [("", 18)] == [(entry.domain, entry.version) for entry in proto.opset_import]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.integers(0, 3)),
        min_size=1,
        max_size=10,
    )
)
def test_whatever_calibrates_the_file_keeps_its_interface(tiny_model, drawn):
    """Any number of images of any sizes, black or white ones alone included: it loads, and rows sum to 1."""
    random = np.random.default_rng(0)
    images = [
        np.clip(random.normal(grey, spread, (height, width, 3)), 0, 255).astype(np.uint8)
        for height, width, grey, spread in drawn
    ]
    model = quantise(tiny_model, images)
    assert interface(tiny_model) == interface(model)
    assert {**tiny_model.metadata, "precision": "int8"} == model.metadata
    np.testing.assert_allclose(Predictor(model).probabilities(IMAGES).sum(1), 1, atol=1e-5)


def test_heavy_operators_compute_on_int8_and_preprocessing_on_floats(int8):
    """Weights are int8, one scale per output channel; no node of the preprocessing is quantised."""
    graph = onnx.load_model_from_string(int8.content).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    heavy = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert {"Conv", "Gemm"} == {node.op_type for node in heavy}
    for node in heavy:
        weight = makers[node.input[1]]
        assert "DequantizeLinear" == weight.op_type
        assert (np.int8, 1) == (values[weight.input[0]].dtype, values[weight.input[1]].ndim)
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert ["preprocess/rows/blocks", "preprocess/columns/blocks"] == [node.name for node in products]
    assert "DequantizeLinear" not in {makers[name].op_type for node in products for name in node.input}
    assert "Relu" not in {node.op_type for node in graph.node}, "the activation is folded into the range"


class Residual(nn.Module):
    """Two convolutions beside a shortcut, clipped as in MobileNetV2, then another."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first, self.second, self.last = (nn.Conv2d(places, 8, 3, 1, 1) for places in (3, 8, 8, 8))
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.pool(self.stem(images).relu())
        block = stem + self.second(functional.relu6(self.first(stem)))
        return self.head(self.last(block).relu().mean((2, 3)))


def optimised(model, folder):
    """The graph that ONNX Runtime runs, with its weights."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath).graph


def test_every_heavy_operator_ends_in_an_integer_kernel(tmp_path):
    """ONNX Runtime fuses all convolutions, the shortcut's sum and the head; the 8 bits of the weights stay signed."""
    preprocessing = Preprocessing(size_px=24, resize_px=28)
    graph = optimised(quantise(to_onnx(Residual().eval(), preprocessing, ["a", "b", "c"]), IMAGES), tmp_path)
    operators = Counter(node.op_type for node in graph.node)
    assert (4, 1, 1) == tuple(operators[name] for name in ("QLinearConv", "QLinearAdd", "QGemm"))
    assert not {"Conv", "Gemm"} & set(operators)
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert {TensorProto.INT8} == {kinds[node.input[3]] for node in graph.node if node.op_type == "QLinearConv"}


@pytest.mark.parametrize(("is_cut_off", "entry"), [(True, "1"), (False, "0")])
def test_weights_are_widened_only_where_sums_would_be_cut_off(int8, monkeypatch, is_cut_off, entry):
    """Widened weights take twice the time; the answers are the same."""
    plainly = Predictor(int8).probabilities(IMAGES)
    monkeypatch.setattr(predictor, "saturates", lambda: is_cut_off)
    ours = Predictor(int8)
    assert entry == ours.session.get_session_options().get_session_config_entry("session.x64quantprecision")
    if is_cut_off or not saturates():
        np.testing.assert_array_equal(plainly, ours.probabilities(IMAGES))


def test_answers_stay_close(tiny_model, int8):
    """A small network loses next to nothing."""
    before, after = (Predictor(model).probabilities(IMAGES) for model in (tiny_model, int8))
    np.testing.assert_allclose(after, before, atol=0.05)
    assert 0.0 < np.abs(after - before).max()


def test_equal_images_give_equal_bytes_in_any_process(tiny_model, int8, tmp_path):
    """Neither sets of names nor temporary paths leave a trace: another hash seed, the same file."""
    assert int8.digest == quantise(tiny_model, iter(IMAGES)).digest
    tiny_model.save(tmp_path / "model.onnx")
    np.savez(tmp_path / "images.npz", *IMAGES)
    code = (
        "import numpy as np, pathlib; from pipeline.serving.onnx_file import OnnxFile;"
        "from pipeline.serving.quantisation import quantise; folder = pathlib.Path(__import__('sys').argv[1]);"
        "images = np.load(folder / 'images.npz');"
        "print(quantise(OnnxFile.load(folder / 'model.onnx'), [images[name] for name in images.files]).digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, check=True
    )
    assert int8.digest == done.stdout.strip()


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_plain_onnxruntime_loads_it(tiny_net, fit):
    """With default options, as a deployment would: among them the rewriting to channels-last images."""
    preprocessing = Preprocessing(size_px=24, resize_px=28, fit=fit)
    model = quantise(to_onnx(tiny_net, preprocessing, ["a", "b", "c"]), IMAGES)
    session = onnxruntime.InferenceSession(model.content)
    assert (2, 3) == session.run(["probabilities"], {"images": np.stack(IMAGES[:2])})[0].shape


def test_golden_answers_of_a_head_that_jumps_may_jump():
    """By as many comparisons as may fall to the other side; a file of an older version names no step."""
    assert (1e-4, 1e-4 + 0.03) == pytest.approx((tolerance({}), tolerance({"head": "forest", "head_step": "0.01"})))


def test_golden_answers_of_int8_have_a_tolerance_of_their_own(int8, tiny_model, tmp_path):
    """Kernels differ by a rounding; a whole other model does not pass."""
    assert (1e-4, 0.1) == (tolerance(tiny_model.metadata), tolerance(int8.metadata))
    golden = Golden.record(Predictor(int8), ["one", "two"], IMAGES[:2])
    golden.save(tmp_path)
    assert Golden.load(tmp_path).difference(Predictor(int8)) < 1e-6


def test_triton_gets_the_same_file(int8, tmp_path):
    """The layout does not depend on the precision: inputs and outputs are the same."""
    triton.write(tmp_path, "bars", int8, int8.metadata["classes"])
    assert int8.digest == type(int8).load(tmp_path / "bars/1/model.onnx").digest
