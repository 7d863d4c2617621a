"""The engine that runs the backbone: chosen once, by measuring, and never at the cost of the features."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import digests
from pipeline.core.errors import ServiceError
from pipeline.data import recipes
from pipeline.features import engines, extraction
from pipeline.features.engines import ONNX_IMAGES, Measured, OnnxEngine, TorchEngine, choose, measure, recipe
from pipeline.features.extraction import Extraction, extract
from pipeline.features.options import ExtractionOptions
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights

CPU = torch.device("cpu")


@pytest.fixture
def weights() -> BackboneWeights:
    return random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)


@pytest.fixture
def for_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys are small and few; let them be worth measuring for."""
    monkeypatch.setattr(engines, "SMALL_IMAGE_PX", 0)
    monkeypatch.setattr(engines, "WORTH_IMAGES", 1)


def run(weights: BackboneWeights, toys: Any, cache: Path, **fields: Any) -> Extraction:
    return extract(weights, [toys.source], toys.context(cache=cache), CPU, ExtractionOptions(batch_size=16, **fields))


def pinned(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[int]:
    """As if this had been measured; the list grows by one with every measurement."""
    calls: list[int] = []
    found = {"engine": "onnxruntime", "torch": 50.0, "onnxruntime": 200.0, "relative_error": 1e-7, **fields}

    def measured(*_: Any) -> Measured:
        calls.append(1)
        return Measured(**found)

    monkeypatch.setattr(engines, "measure", measured)
    return calls


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_both_engines_give_the_same_features(name: str) -> None:
    """To far less than the tolerance, for the backbones that are measured in the docs; the batch is parted unevenly."""
    weights = random_weights(name, 0, backbone(name).preprocessing.model_copy(update={"size_px": 96, "resize_px": 96}))
    images = torch.rand(ONNX_IMAGES + 2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = TorchEngine(weights.build(), CPU)(images)
    found = OnnxEngine.of(weights, None)(images)
    assert expected.shape == found.shape == (len(images), weights.feature_dim)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_what_was_measured_once_holds(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_small_images: None
) -> None:
    """The second extraction neither measures nor exports again, and finds the features of the first."""
    calls = pinned(monkeypatch)
    first = run(weights, toy_domains, tmp_path)
    exports = list((tmp_path / "engines").glob("*.onnx.checked"))
    again = run(weights, toy_domains, tmp_path)
    assert calls == [1]
    assert first.engine.name == again.engine.name == "onnxruntime"
    assert (again.computed, again.cached) == (0, 60)
    assert len(exports) == 1
    assert first.engine.sentence == "by ONNX Runtime, 4.0 times as fast as torch here"
    plain = run(weights, toy_domains, tmp_path, engine="torch")
    assert plain.computed == 60, "torch's features have a place of their own"
    assert np.allclose(plain.tables[0].features, first.tables[0].features, atol=1e-5)


def test_few_new_images_are_not_measured_for(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below 3,000, or where more are there than are missing, torch goes on; so do small images and GPUs."""
    calls = pinned(monkeypatch)
    monkeypatch.setattr(engines, "SMALL_IMAGE_PX", 0)
    assert run(weights, toy_domains, tmp_path / "few").engine.name == "torch"
    monkeypatch.setattr(engines, "WORTH_IMAGES", 1)
    for missing, images, expected in ((999, 2000, "torch"), (1000, 2000, "onnxruntime")):
        folder = tmp_path / str(missing)
        assert choose("auto", weights, CPU, folder, lambda _, n=missing: n, images=images).name == expected
    assert choose("auto", weights, torch.device("cuda"), tmp_path, lambda _: 9999, images=9999).name == "torch"
    monkeypatch.setattr(engines, "SMALL_IMAGE_PX", 64)
    assert choose("auto", weights, CPU, tmp_path, lambda _: 9999, images=9999).name == "torch"
    assert calls == [1]


@pytest.mark.parametrize(
    ("speed_up", "error", "expected"), [(4.0, 0.0, "onnxruntime"), (1.1, 0.0, "torch"), (4.0, 2e-3, "torch")]
)
def test_a_faster_engine_must_be_surely_faster_and_right(
    weights: BackboneWeights, monkeypatch: pytest.MonkeyPatch, speed_up: float, error: float, expected: str
) -> None:
    """A fifth faster at least, and within a thousandth of torch's features."""
    clock = [0.0]
    monkeypatch.setattr(engines.time, "perf_counter", lambda: clock[0])

    class Timed:
        def __init__(self, seconds: float, error: float) -> None:
            self.seconds, self.error = seconds, error

        def __call__(self, images: torch.Tensor) -> np.ndarray:
            clock[0] += self.seconds
            return np.full((len(images), 4), 1.0 + self.error)

    found = measure(weights, Timed(1.0, 0.0), Timed(1.0 / speed_up, error))
    assert found.engine == expected
    assert found.torch == pytest.approx(engines.TRIAL_IMAGES)
    assert found.relative_error == pytest.approx(error)
    assert ("ONNX Runtime, 4.0 times" in found.sentence) == (expected == "onnxruntime")


def test_an_engine_that_fails_is_not_taken(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_small_images: None
) -> None:
    """Torch does the work, the reason is told, and it is not tried again."""
    tries: list[int] = []

    def failing(*_: Any) -> OnnxEngine:
        tries.append(1)
        raise RuntimeError("no such operator\nat all")

    monkeypatch.setattr(OnnxEngine, "of", failing)
    for _ in range(2):
        found = run(weights, toy_domains, tmp_path)
        assert found.engine.name == "torch"
        assert found.engine.sentence == "by torch; ONNX Runtime cannot be used here (RuntimeError: no such operator)"
    assert tries == [1]


def test_a_full_disk_says_nothing_of_an_engine(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_small_images: None
) -> None:
    """Torch does the work this time, and nothing is kept of it: once there is room the other engine is tried."""

    def full(*_: Any) -> OnnxEngine:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OnnxEngine, "of", full)
    found = run(weights, toy_domains, tmp_path)
    assert found.engine.name == "torch"
    assert "could not be tried now ([Errno 28] No space left on device)" in found.engine.sentence
    assert not list(tmp_path.rglob("*.json.checked"))


def test_a_graph_in_which_a_bit_flipped_is_exported_anew(weights: BackboneWeights, tmp_path: Path) -> None:
    """Its weights may be others, and its features would be wrong without a word; cut off it would not load at all."""
    OnnxEngine.of(weights, tmp_path)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (kept,) = tmp_path.iterdir()
    whole, random = kept.read_bytes(), np.random.default_rng(0)
    expected = OnnxEngine.of(weights, tmp_path)(images)
    for place in (*random.integers(0, 8 * len(whole), 2), None):
        damaged = bytearray(whole)
        if place is None:
            del damaged[len(whole) // 2 :]
        else:
            damaged[place // 8] ^= 1 << (place % 8)
        kept.write_bytes(damaged)
        assert np.array_equal(expected, OnnxEngine.of(weights, tmp_path)(images))
        assert whole == kept.read_bytes()


def as_of_another_version() -> bytes:
    content = b'{"engine": "torch", "seconds": 3}'
    return digests.of_bytes(content).encode() + content


@pytest.mark.parametrize("damage", [b"", b'{"engine": "torch"}', as_of_another_version()])
@pytest.mark.parametrize(("engine", "other"), [("onnxruntime", "torch"), ("torch", "onnxruntime")])
def test_a_damaged_choice_stays_what_it_was(
    toy_domains: Any,
    weights: BackboneWeights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    for_small_images: None,
    engine: str,
    other: str,
    damage: bytes,
) -> None:
    """The features that are kept tell which engine it was, though a new measurement would say the other."""
    pinned(monkeypatch, engine=engine)
    first = run(weights, toy_domains, tmp_path)
    features = first.tables[0].array
    (record,) = (tmp_path / "engines").glob("*.json.checked")
    record.write_bytes(damage)
    calls = pinned(monkeypatch, engine=other)
    again = run(weights, toy_domains, tmp_path)
    assert ([], engine, 0) == (calls, again.engine.name, again.computed)
    assert np.array_equal(features, again.tables[0].features)


def test_new_weights_are_measured_anew(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_small_images: None
) -> None:
    """The choice belongs to the weights, the size of the images, the versions and how many images are given at once."""
    calls = pinned(monkeypatch)
    run(weights, toy_domains, tmp_path)
    run(random_weights("small_cnn", 1, weights.preprocessing), toy_domains, tmp_path)
    assert calls == [1, 1]
    monkeypatch.setattr(engines, "ONNX_IMAGES", 2)
    run(weights, toy_domains, tmp_path)
    assert calls == [1, 1, 1]


@pytest.mark.parametrize("changed", engines.CODE)
def test_the_recipe_holds_the_code_on_the_way(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    """Of each module by itself."""
    before = recipe("torch", "cpu")

    def of_code(module: Any) -> str:
        return "changed" if module.__name__ == changed else digests.of_code(module)

    monkeypatch.setattr(recipes, "digests", SimpleNamespace(of_code=of_code, of_json=digests.of_json))
    assert before != recipe("torch", "cpu")


def test_each_engine_and_kind_of_device_has_its_recipe() -> None:
    """ONNX Runtime computes on the CPU, whatever device torch would take."""
    assert 3 == len({recipe("torch", "cpu"), recipe("torch", "cuda"), recipe("onnxruntime", "cpu")})
    assert recipe("onnxruntime", "cpu") == recipe("onnxruntime", "cuda")


def test_features_of_other_decoders_are_not_taken(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release of libjpeg may see other pixels; the table says by which they were made."""
    context = toy_domains.context(cache=tmp_path)
    first, again = (extract(weights, [toy_domains.target], context, CPU, ExtractionOptions()) for _ in range(2))
    assert (60, 0, 0, 60) == (first.computed, first.cached, again.computed, again.cached)
    assert recipe("torch", "cpu") == first.tables[0].facts.recipe == again.tables[0].facts.recipe
    monkeypatch.setattr(recipes, "decoders", lambda: ["another"])
    other = extract(weights, [toy_domains.target], context, CPU, ExtractionOptions())
    assert (60, recipe("torch", "cpu")) == (other.computed, other.tables[0].facts.recipe)


def test_a_process_that_would_compute_other_features_is_refused(
    toy_domains: Any, weights: BackboneWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of a cluster may have another Pillow: what it made would lie under this one's name."""
    recipes = iter(["of who asks", "of who computes"])
    monkeypatch.setattr(extraction, "recipe", lambda *_: next(recipes))
    with pytest.raises(
        ServiceError, match="Install the same Python, Graftline, Pillow, torch and torchvision on every machine"
    ):
        extract(weights, [toy_domains.target], toy_domains.context(), CPU, ExtractionOptions())
