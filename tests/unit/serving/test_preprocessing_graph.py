"""The preprocessing in ONNX against torch's, which is the definition."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import preprocess
from pipeline.models.onnx_graph import OPSET
from pipeline.serving.predictor import session
from pipeline.serving.preprocessing_graph import INPUT, preprocessing_graph

TOLERANCE = 5e-5
"""On normalised values (one grey level is about 0.017): resampling weights in float32, computed in another order."""

KINDS = {
    "crop": Preprocessing(size_px=56, resize_px=64),
    "odd crop": Preprocessing(size_px=31, resize_px=40),
    "stretch": Preprocessing(size_px=32, resize_px=32, fit="stretch"),
    "inception": Preprocessing(size_px=75, resize_px=86, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
SIZES = [(8, 8), (1, 1), (1, 3), (7, 5), (20, 24), (64, 64), (63, 65), (65, 64), (100, 37), (37, 251), (301, 299)]


def compiled(preprocessing: Preprocessing):
    model = helper.make_model(
        preprocessing_graph(preprocessing), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    runtime = session(model.SerializeToString())
    return lambda images: runtime.run(None, {INPUT: images})[0]


def by_torch(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    return preprocess(torch.from_numpy(images).permute(0, 3, 1, 2), preprocessing).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch_on_every_size(kind):
    """Tiny, odd, exact and large images, shrunk and enlarged, at two batch sizes: the values are torch's."""
    preprocessing, random = KINDS[kind], np.random.default_rng(0)
    graph = compiled(preprocessing)
    for number, (height, width) in enumerate(SIZES + [tuple(random.integers(2, 200, 2)) for _ in range(20)]):
        images = random.integers(0, 256, (1 + number % 3, height, width, 3), dtype=np.uint8)
        np.testing.assert_allclose(graph(images), by_torch(images, preprocessing), atol=TOLERANCE, rtol=0)


def test_pixels_at_the_border_are_torchs_too():
    """If the border's pixel were repeated, the outermost pixels of a shrunk image would be off by several levels."""
    preprocessing = KINDS["stretch"]
    images = np.random.default_rng(1).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    difference = np.abs(compiled(preprocessing)(images) - by_torch(images, preprocessing))
    assert difference[:, :, [0, -1], :].max() < TOLERANCE


def test_an_image_of_the_right_size_stays_as_it_is():
    """Nothing is resampled: each grey level of each pixel comes back."""
    preprocessing = KINDS["stretch"]
    image = np.random.default_rng(2).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    mean, std = (np.array(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    levels = (compiled(preprocessing)(image) * std + mean) * 255
    np.testing.assert_allclose(levels, image.transpose(0, 3, 1, 2), atol=1e-3)


STRIP = """
from pathlib import Path
import numpy as np
from onnx import helper
from pipeline.data.preprocessing import Preprocessing
from pipeline.serving.predictor import session
from pipeline.serving.preprocessing_graph import preprocessing_graph

graph = preprocessing_graph(Preprocessing(size_px=224, resize_px=256))
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
runtime = session(model.SerializeToString())
strip = np.random.default_rng(0).integers(0, 256, (1, SHAPE, 3), dtype=np.uint8)

def kilobytes(name):
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])

Path("/proc/self/clear_refs").write_text("5")  # the peak so far, which may be that of the process that started this one
before = kilobytes("VmRSS")
runtime.run(None, {"images": strip})
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads proc(5)")
@pytest.mark.parametrize("shape", ["1, 20000", "20000, 1"])
def test_a_strip_is_resized_only_where_it_is_seen(shape: str):
    """Whole, it would be 256 × 5,120,000 pixels: 16 GB for the 224 that are in the crop."""
    script = STRIP.replace("SHAPE", shape)
    grown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(grown.stdout) < 100_000


def test_a_crop_larger_than_the_image_is_refused():
    """Padding is not part of the convention."""
    with pytest.raises(ValueError) as problem:
        preprocessing_graph(Preprocessing(size_px=256, resize_px=224))
    assert "size_px=256 is larger than resize_px=224" == str(problem.value)
