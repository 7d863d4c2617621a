"""int8: the same interface and metadata, deterministic bytes, nearly the same answers, and a loadable file."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.preprocessing import Preprocessing
from pipeline.serving import triton
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
    preprocessing = {node.op_type for node in graph.node if node.name in ("preprocess/resized", "preprocess/scaled")}
    assert {"Resize", "Mul"} == preprocessing
    assert "Relu" not in {node.op_type for node in graph.node}, "the activation is folded into the range"


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
    """With default options, as a deployment would: the channels-last rewriting of ONNX Runtime breaks on the plain
    Transpose and Resize of the float file."""
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
