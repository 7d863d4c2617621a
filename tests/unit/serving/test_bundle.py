"""The bundle proves itself: what is whole verifies, what was touched does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.core import digests
from pipeline.core.errors import BundleError
from pipeline.serving import bundle
from pipeline.serving.golden import Golden
from pipeline.serving.predictor import Predictor

CLASSES = ["class0", "class1", "class2"]


@pytest.fixture
def contents(tiny_model):
    random = np.random.default_rng(0)
    return bundle.Contents(
        name="bars",
        model=tiny_model,
        classes=CLASSES,
        golden_names=["a.png", "b.png"],
        golden_images=[random.integers(0, 256, (20, 24, 3), dtype=np.uint8), np.zeros((1500, 700, 3), np.uint8)],
        card="# bars\n",
        bill="{}\n",
        facts={"passed": True},
    )


@pytest.fixture
def folder(tmp_path, contents):
    path = tmp_path / "bundle"
    path.mkdir()
    bundle.write(path, contents)
    return path


def test_holds_what_deployment_needs(folder):
    """Every file of the hand-off by its name."""
    assert [
        "MODEL_CARD.md",
        "bom.cdx.json",
        "golden/image_000.png",
        "golden/image_001.png",
        "golden/inputs.npz",
        "golden/outputs.npz",
        "labels.txt",
        "manifest.json",
        "model.onnx",
        "triton/bars/1/model.onnx",
        "triton/bars/config.pbtxt",
        "triton/bars/labels.txt",
    ] == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert "class0\nclass1\nclass2\n" == (folder / "labels.txt").read_text()


def test_a_whole_bundle_verifies(folder):
    checked = bundle.verify(folder)
    assert (12, 2) == (checked.files, checked.golden_images)
    assert 0.0 == checked.max_probability_delta


def test_equal_contents_make_equal_bundles(folder, contents, tmp_path):
    """Not a byte depends on when or where the bundle was written."""
    again = tmp_path / "elsewhere"
    again.mkdir()
    bundle.write(again, contents)
    assert digests.of_path(folder) == digests.of_path(again)


def test_the_manifest_names_the_model_and_every_file(folder, tiny_model):
    manifest = bundle.read(folder)
    assert (tiny_model.digest, CLASSES, "tiny") == (manifest.model_sha256, manifest.classes, manifest.model["backbone"])
    assert tiny_model.digest == manifest.files["model.onnx"].sha256 == manifest.files["triton/bars/1/model.onnx"].sha256


def test_a_bundle_opens_as_a_model(folder):
    """``graftline predict`` takes the folder."""
    assert CLASSES == Predictor(folder).classes


def test_golden_images_are_kept_small_and_come_back_as_they_were(folder, contents):
    golden = Golden.load(folder)
    np.testing.assert_array_equal(contents.golden_images[0], golden.images[0])
    assert ["a.png", "b.png"] == golden.names
    assert (1024, 478, 3) == golden.images[1].shape


@pytest.mark.parametrize(
    ("touch", "found"),
    [
        (lambda path: (path / "labels.txt").write_text("x\n"), "labels.txt with another digest than recorded"),
        (lambda path: (path / "model.onnx").unlink(), "model.onnx, which is missing"),
        (lambda path: (path / "extra").write_text(""), "extra, which is not in the manifest"),
        (lambda path: (path / "manifest.json").unlink(), "no manifest.json"),
        (lambda path: (path / "manifest.json").write_text("{}"), "a manifest.json that is not one of Graftline's"),
    ],
)
def test_a_touched_bundle_is_refused(folder, touch, found):
    """The message names the file."""
    touch(folder)
    with pytest.raises(BundleError) as problem:
        bundle.verify(folder)
    assert found == problem.value.found
    assert str(folder) == problem.value.where


def test_answers_other_than_golden_are_refused(folder):
    """A bundle whose digests fit but whose model answers otherwise (another runtime, say) does not verify."""
    golden = Golden.load(folder)
    golden._replace(probabilities=golden.probabilities[:, ::-1]).save(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("golden/inputs.npz", "golden/outputs.npz"):
        manifest["files"][name] = {
            "sha256": digests.of_file(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as problem:
        bundle.verify(folder)
    assert "answers to the golden images that differ by" in problem.value.found


def test_missing_golden_pairs_are_named(tmp_path):
    with pytest.raises(BundleError) as problem:
        Golden.load(tmp_path)
    assert "golden images and answers (golden/inputs.npz, golden/outputs.npz)" == problem.value.expected
