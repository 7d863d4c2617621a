"""The exported file: what it offers, what it says about itself, and that it says nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from pipeline.data.transforms import preprocess
from pipeline.serving.export import to_onnx
from pipeline.serving.predictor import Predictor


def test_takes_images_of_any_size_and_gives_logits_and_probabilities(tiny_model):
    """The interface that deployment relies on, names, types and free dimensions."""
    session = Predictor(tiny_model).session
    described = [(end.name, end.type, end.shape) for end in (*session.get_inputs(), *session.get_outputs())]
    assert [
        ("images", "tensor(uint8)", ["batch", "height", "width", 3]),
        ("logits", "tensor(float)", ["batch", 3]),
        ("probabilities", "tensor(float)", ["batch", 3]),
    ] == described


@pytest.mark.parametrize("shape", [(1, 20, 24, 3), (2, 24, 24, 3), (5, 9, 61, 3)])
def test_answers_as_torch_does(tiny_model, tiny_net, preprocessing, shape):
    """Logits and probabilities of the file are the network's behind torch's preprocessing."""
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.inference_mode():
        logits = tiny_net(preprocess(torch.from_numpy(images).permute(0, 3, 1, 2), preprocessing))
    answers = Predictor(tiny_model).run(images)
    np.testing.assert_allclose(answers.logits, logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(answers.probabilities, logits.softmax(1).numpy(), atol=1e-5)


def test_the_same_network_gives_the_same_bytes(tiny_model, tiny_net, preprocessing):
    """Exporting twice is exporting once."""
    again = to_onnx(tiny_net, preprocessing, ["class0", "class1", "class2"], {"backbone": "tiny", "strategy": "probe"})
    assert tiny_model.digest == again.digest


def test_the_file_says_what_it_is(tiny_model, preprocessing):
    """Metadata properties survive the trip through the file, lists and mappings included."""
    assert ["class0", "class1", "class2"] == tiny_model.metadata["classes"]
    assert preprocessing.model_dump(mode="json") == tiny_model.metadata["preprocessing"]
    assert "tiny" == tiny_model.metadata["backbone"]
    assert "graftline" == onnx.load_model_from_string(tiny_model.content).producer_name


def test_the_file_tells_nothing_about_the_machine_it_was_made_on(tiny_model):
    """The exporter notes stack traces with the paths of source files; none is left."""
    assert b".py" not in tiny_model.content
    assert b"stack_trace" not in tiny_model.content


def test_the_file_is_whole(tiny_model, tmp_path):
    """Weights lie inside: the file alone loads from another folder."""
    tiny_model.save(tmp_path / "alone" / "model.onnx")
    assert ["class0", "class1", "class2"] == Predictor(tmp_path / "alone" / "model.onnx").classes
    assert ["model.onnx"] == [path.name for path in (tmp_path / "alone").iterdir()]
