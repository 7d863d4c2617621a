"""A file's answers to a manifest's images: those of the file, and asked for once."""

from __future__ import annotations

import importlib.metadata
import shutil
from types import SimpleNamespace

import numpy as np
import PIL
import pytest

from pipeline.core import cores, digests, memory
from pipeline.core.errors import BundleError
from pipeline.data import recipes
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.serving import answering
from pipeline.serving.answering import Answering, at_once, forget_others
from pipeline.serving.export import to_onnx
from pipeline.serving.onnx_file import OnnxFile
from pipeline.serving.parity import compare
from pipeline.serving.predictor import Predictor
from pipeline.serving.reference import reference


@pytest.fixture
def asked(monkeypatch):
    """Shapes of the batches that are put to any file from now on."""
    shapes, run = [], Predictor.run

    def noted(self, batch):
        shapes.append(batch.shape)
        return run(self, batch)

    monkeypatch.setattr(Predictor, "run", noted)
    return shapes


@pytest.fixture
def domains(toy_domains, tmp_path):
    return SimpleNamespace(
        context=toy_domains.context(cache=tmp_path / "cache"),
        without=toy_domains.context(),
        test=toy_domains.target.split("test"),
        all=toy_domains.target,
    )


@pytest.fixture(scope="module")
def other_model(tiny_net, preprocessing):
    return to_onnx(tiny_net, preprocessing, ["a", "b", "c"], {"backbone": "another"})


def test_they_are_those_of_the_file_in_the_manifests_order(tiny_model, domains):
    """One by one or in batches, side by side or not: the same."""
    pixels = list(ImageStore(domains.without.workspace).pixels(domains.all))
    expected = Predictor(tiny_model).probabilities(pixels)
    found = Answering(tiny_model, domains.without).of(domains.all, "images")
    assert np.float32 == found.dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)
    alone = [Predictor(tiny_model, threads=1).run(image[None]).probabilities[0] for image in pixels]
    np.testing.assert_array_equal(found, alone)


def test_each_image_is_asked_once(tiny_model, domains, asked):
    """Those that are new among known ones too; the answers are those of a workspace that knows nothing."""
    Answering(tiny_model, domains.context).of(domains.test, "images")
    assert [(1, 20, 24, 3)] * len(domains.test) == asked
    again = Answering(tiny_model, domains.context).of(domains.all, "images")
    assert len(domains.all) == len(asked)
    np.testing.assert_array_equal(again, Answering(tiny_model, domains.without).of(domains.all, "images"))


def test_what_parity_asked_is_known(tiny_model, tiny_net, preprocessing, domains, asked):
    """To the last bit, or an unchanged run could give another report."""
    images = ImageStore(domains.context.workspace).pixels(domains.test)
    answers = compare(
        reference(tiny_net, preprocessing), Predictor(tiny_model, threads=1), images, split="test"
    ).answers
    Answering(tiny_model, domains.context).remember(domains.test.frame["id"].tolist(), answers)
    asked.clear()
    found = Answering(tiny_model, domains.context).of(domains.test, "images")
    assert [] == asked
    np.testing.assert_array_equal(found, Answering(tiny_model, domains.without).of(domains.test, "images"))


def test_no_image_is_no_answer(tiny_model, domains, asked):
    found = Answering(tiny_model, domains.context).of(domains.test.where(domains.test.frame["id"] == ""), "images")
    assert ((0, 3), []) == (found.shape, asked)


def test_another_file_knows_nothing(tiny_model, other_model, domains, asked):
    Answering(tiny_model, domains.context).of(domains.test, "images")
    Answering(other_model, domains.context).of(domains.test, "images")
    assert 2 * len(domains.test) == len(asked)


@pytest.mark.parametrize(
    ("owner", "name", "changed"),
    [
        (importlib.metadata, "version", lambda name: f"another {name}"),
        (PIL.features, "version", lambda _: "another"),
        (answering, "CODE", answering.CODE[:-1]),
    ],
)
def test_other_code_or_libraries_know_nothing(tiny_model, domains, asked, monkeypatch, owner, name, changed):
    Answering(tiny_model, domains.context).of(domains.test, "images")
    monkeypatch.setattr(owner, name, changed)
    Answering(tiny_model, domains.context).of(domains.test, "images")
    assert 2 * len(domains.test) == len(asked)


@pytest.mark.parametrize("changed", [*answering.CODE, answering.__name__])
def test_the_folder_follows_the_code_on_the_way(tiny_model, domains, monkeypatch, changed):
    """Of each module by itself."""
    before = Answering(tiny_model, domains.context).folder

    def of_code(module):
        return "changed" if module.__name__ == changed else digests.of_code(module)

    monkeypatch.setattr(recipes, "digests", SimpleNamespace(of_code=of_code, of_json=digests.of_json))
    assert before != Answering(tiny_model, domains.context).folder


def test_a_kill_costs_the_last_answers_alone(tiny_model, domains, asked, monkeypatch):
    """They are kept as the work goes on."""
    monkeypatch.setattr(answering, "KEEP_EVERY", 5)
    once, answered = Predictor.alone, []

    def killed(self, image):
        answered.append(image)
        if len(answered) == 12:
            raise KeyboardInterrupt
        return once(self, image)

    monkeypatch.setattr(Predictor, "alone", killed)
    with pytest.raises(KeyboardInterrupt):
        Answering(tiny_model, domains.context).of(domains.test, "images")
    asked.clear()
    Answering(tiny_model, domains.context).of(domains.test, "images")
    assert 2 == len(asked)


def test_what_is_no_model_is_refused_as_by_a_predictor(domains):
    """Such as a champion that somebody else has put into the registry."""
    with pytest.raises(BundleError, match="an ONNX file"):
        Answering(OnnxFile(b"no model"), domains.context)


def test_damaged_answers_are_asked_for_again(tiny_model, domains, asked):
    expected = Answering(tiny_model, domains.context).of(domains.test, "images")
    (kept,) = Answering(tiny_model, domains.context).folder.rglob("features.npy")
    kept.write_bytes(kept.read_bytes()[:-4] + b"\xff\xff\xff\x7f")
    found = Answering(tiny_model, domains.context).of(domains.test, "images")
    np.testing.assert_array_equal(expected, found)
    assert 2 * len(domains.test) == len(asked)


def test_answers_of_other_files_are_removed(tiny_model, other_model, domains):
    """What is kept stays what was written; without a cache, or before there is one, there is nothing to do."""
    champion, challenger = Answering(other_model, domains.context), Answering(tiny_model, domains.context)
    forget_others([Answering(tiny_model, domains.without), challenger])
    champion.of(domains.test, "images"), challenger.of(domains.test, "images")
    forget_others([challenger, champion])
    assert {champion.folder, challenger.folder} == set(challenger.folder.parent.iterdir())
    forget_others([challenger])
    assert [challenger.folder] == list(challenger.folder.parent.iterdir())
    shutil.rmtree(challenger.folder.parent)
    forget_others([challenger])


def test_no_more_side_by_side_than_there_is_memory_for(domains, monkeypatch):
    """One per core or worker, and never none."""
    monkeypatch.setattr(cores, "usable", lambda: 64)
    for free, expected in ((10**12, 64), (10**6, 1), (10 * (130 * 10**6 + 32 * 480), 10)):
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: free)
        assert expected == at_once(domains.test)
        assert min(3, expected) == at_once(domains.test, workers=3)


@pytest.mark.parametrize(
    ("side_px", "images", "pixels"),
    [(0, 1, 0), (512, 8, 8 * 512**2), (4000, 1, 4000**2), (4000, 8, 4000**2), (4000, 128, 128 * 512**2)],
)
def test_several_images_at_a_time_take_more_memory(domains, monkeypatch, side_px, images, pixels):
    """Layers by their count; pixels of the largest photo, or of as many as parity has scaled down."""
    rows = Manifest(domains.test.frame.assign(width=side_px, height=side_px))
    each = 100 * 10**6 + images * 30 * 10**6 + pixels * 32
    monkeypatch.setattr(cores, "usable", lambda: 64)
    for free, expected in ((10 * each - 1, 9), (10 * each, 10)):
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: free)
        assert expected == at_once(rows, images=images)
