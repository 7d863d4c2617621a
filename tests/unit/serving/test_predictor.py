"""The predictor: order, batches, what it opens and what it refuses, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from pipeline.core.errors import BundleError
from pipeline.serving.predictor import HELD_IMAGES, Predictor, batches_by_size


def noise(*sizes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_answers_come_in_the_order_of_the_images(tiny_model):
    """Images of several sizes are batched by size, yet each answer stands where its image stood."""
    images = noise((8, 9), (20, 24), (8, 9), (5, 5), (20, 24), (8, 9))
    predictor = Predictor(tiny_model, batch_size=2)
    one_by_one = np.concatenate([predictor.run(image[None]).probabilities for image in images])
    np.testing.assert_allclose(one_by_one, predictor.probabilities(images), atol=1e-6)


def test_probabilities_sum_to_one(tiny_model):
    probabilities = Predictor(tiny_model).probabilities(noise((9, 9), (10, 9)))
    np.testing.assert_allclose(np.ones(2), probabilities.sum(1), atol=1e-6)


def test_no_images_give_no_answers(tiny_model):
    assert (0, 3) == Predictor(tiny_model).probabilities([]).shape


def test_images_of_ever_new_sizes_do_not_pile_up():
    """At most a fixed number of images waits for others of their size."""
    sizes = ((1 + number % 97, 1 + number % 89) for number in range(3 * HELD_IMAGES))
    given = 0

    def counted():
        nonlocal given
        for size in sizes:
            given += 1
            yield np.zeros((*size, 3), np.uint8)

    taken = 0
    for positions, batch in batches_by_size(counted(), batch_size=32):
        assert len(positions) == len(batch)
        taken += len(batch)
        assert given - taken <= HELD_IMAGES
    assert 3 * HELD_IMAGES == taken


def test_stream_answers_file_by_file_and_names_the_unreadable(tiny_model, tmp_path):
    """Files that are no images are passed to the callback, with why, and left out; the others keep their order."""
    images = noise((8, 9), (20, 24), (8, 9))
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    broken = tmp_path / "broken.jpg"
    broken.write_text("not an image")
    gone = tmp_path / "gone.jpg"
    bad: dict[str, str] = {}
    predictor = Predictor(tiny_model)
    answered = list(predictor.stream([files[0], broken, files[1], gone, files[2]], leave_out=bad.__setitem__))
    assert bad == {
        str(broken): "is text that begins 'not an image', not an image",
        str(gone): "cannot be read: No such file or directory",
    }
    assert files == [file for file, _ in answered]
    np.testing.assert_allclose(predictor.probabilities(images), [row for _, row in answered], atol=1e-6)


def test_predicting_never_imports_torch(tiny_model, tmp_path):
    """Deployment has ONNX Runtime and no torch; nothing on the way to an answer may ask for it."""
    path = tmp_path / "model.onnx"
    tiny_model.save(path)
    code = (
        "import sys, numpy; from pipeline.serving.predictor import Predictor;"
        f"print(Predictor({str(path)!r}).probabilities([numpy.zeros((9, 9, 3), numpy.uint8)]).shape);"
        "print([name for name in ('torch', 'mlflow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(1, 3)\n[]\n" == done.stdout


def foreign_model() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("missing.onnx", None, "nothing there"),
        ("labels.txt", b"cat\n", "a .txt file"),
        ("text.onnx", b"not a model", "one that cannot be read as ONNX"),
        ("foreign.onnx", foreign_model(), "one whose input is not uint8 'images'"),
    ],
)
def test_what_is_no_model_of_ours_is_refused(tmp_path, name, content, found):
    """The message says what was found, where, and what to give instead."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError) as problem:
        Predictor(path)
    assert problem.value.found.startswith(found)
    assert str(path) == problem.value.where
    assert "handoff/current" in problem.value.remedy


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BundleError) as problem:
        Predictor(tmp_path)
    assert "a folder without model.onnx" == problem.value.found
