"""The explain stage on the toy domains: pictures of both domains, and figures that are equal each time."""

from __future__ import annotations

import errno
import importlib.metadata
import json
from types import SimpleNamespace

import PIL.features
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.core import digests
from pipeline.data import recipes
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.evaluation import withstanding
from pipeline.evaluation.explain_report import Explanations, Robustness
from pipeline.features.cache import FeatureCache
from pipeline.stages import explain


class Bars(nn.Module):
    """Answers by the brightest third of the image: right on every toy image."""

    def __init__(self, differentiable: bool = True, spatial: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.AvgPool2d(4), nn.AdaptiveAvgPool2d((1, 6)), nn.Flatten())
        if not spatial:
            self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 18))
        self.head = nn.Linear(18, 3)
        weight = torch.zeros(3, 3, 6)
        weight[0, :, 1], weight[1, :, 2], weight[2, :, 4] = 9, 9, 9
        with torch.no_grad():
            self.head.weight.copy_(weight.flatten(1))
            self.head.bias.zero_()
        self.head.differentiable = differentiable

    def forward(self, images):
        return self.head(self.backbone(images))


def trained(keeps_backbone=True, network=Bars, **options):
    """What the stage uses of a trained network."""
    return SimpleNamespace(
        build=lambda: network(**options).eval().requires_grad_(False),
        preprocessing=Preprocessing(size_px=24, resize_px=24, fit="stretch"),
        keeps_backbone=keeps_backbone,
        facts=SimpleNamespace(backbone_digest="bars"),
    )


class Swapped(Bars):
    """The same backbone; another head, which is always wrong about the first two classes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.head.weight.copy_(self.head.weight[[1, 0, 2]])


@pytest.fixture
def run(toy_domains, tmp_path):
    def call(name="run", network=None, params=None, cache=None, **manifests):
        scratch = tmp_path / name
        result = explain.run(
            params or explain.Params(classes=3),
            toy_domains.context(scratch=scratch, cache=cache),
            network=network or trained(),
            label_space=toy_domains.labels,
            source_manifest=manifests.get("source", toy_domains.source),
            target_manifest=manifests.get("target", toy_domains.target),
        )
        folder = result.outputs["explanations"].path
        return SimpleNamespace(
            line=result.line,
            folder=folder,
            explanations=Explanations.load(folder / "explanations.json"),
            robustness=result.outputs["robustness"],
        )

    return call


def test_explains_one_image_of_each_class_in_both_domains(run):
    """Target and source beside each other, class by class; every picture is there and small."""
    explanations = run().explanations
    shown = [(example.shown_for, example.domain) for example in explanations.examples]
    assert [(name, domain) for name in ("class0", "class1", "class2") for domain in ("target", "source")] == shown
    assert ("0", (6, 6)) == (explanations.layer, explanations.grid)
    assert ["grad_cam", "eigen_cam", "random"] == [method.method for method in explanations.methods]


def test_every_picture_is_there_and_small(run):
    found = run()
    files = [
        file
        for example in found.explanations.examples
        for file in (example.image, *(m.file for m in example.maps))
        if file
    ]
    assert 3 * 6 == len(files) == len(set(files))
    for file in files:
        with Image.open(found.folder / file) as picture:
            assert ("PNG", (128, 128)) == (picture.format, picture.size)


def test_tries_the_labelled_test_images(run):
    """Six of twelve test images have labels; attacks and corruptions only take accuracy away here."""
    report = run().robustness
    assert 6 == report.images
    assert 1.0 == report.clean_accuracy
    assert [("fgsm", 2), ("pgd", 2), ("fgsm", 8), ("pgd", 8)] == [(a.attack, a.epsilon) for a in report.attacks]
    assert report.pgd_8_accuracy <= report.fgsm_8_accuracy <= report.fgsm_2_accuracy <= 1
    assert 27 == len(report.corruptions)
    mean = sum(score.accuracy for score in report.corruptions) / 27
    assert pytest.approx(mean) == report.corruption_accuracy == report.corruption_ratio
    assert report.corruption_accuracy_low <= mean <= report.corruption_accuracy_high


def test_equal_inputs_give_equal_bytes(run, tmp_path):
    first, again = run("first"), run("again")
    assert first.robustness == again.robustness
    contents = [{path.name: path.read_bytes() for path in found.folder.iterdir()} for found in (first, again)]
    assert contents[0] == contents[1]


@pytest.fixture
def corrupted(monkeypatch):
    """Ids of the images that are corrupted from now on."""
    ids = []
    once = withstanding._copies

    def noted(image, image_id, side_px):
        ids.append(image_id)
        return once(image, image_id, side_px)

    monkeypatch.setattr(withstanding, "_copies", noted)
    return ids


def test_corrupted_images_pass_through_a_kept_backbone_once(run, corrupted, tmp_path):
    """Later runs know their features, whatever the head; the figures are those of a run that knows nothing."""
    first = run(cache=tmp_path / "cache")
    assert 6 == len(set(corrupted)) == len(corrupted)
    again, other = run(cache=tmp_path / "cache"), run(cache=tmp_path / "cache", network=trained(network=Swapped))
    assert 6 == len(corrupted)
    assert first.robustness == again.robustness == run().robustness
    assert first.robustness != other.robustness == run(network=trained(network=Swapped)).robustness


def test_images_that_are_new_among_known_ones_are_corrupted(run, corrupted, tmp_path):
    known = run(cache=tmp_path / "cache", params=explain.Params(classes=0, images=4))
    assert (4, 4) == (known.robustness.images, len(corrupted))
    more = run(cache=tmp_path / "cache")
    assert 6 == len(set(corrupted)) == len(corrupted)
    assert run().robustness == more.robustness


@pytest.mark.parametrize(
    "changed",
    [
        lambda network: setattr(network.facts, "backbone_digest", "other"),
        lambda network: setattr(network, "preprocessing", Preprocessing(size_px=24, resize_px=24, fit="crop")),
    ],
)
def test_another_backbone_or_preprocessing_knows_nothing(run, corrupted, tmp_path, changed):
    run(cache=tmp_path / "cache")
    network = trained()
    changed(network)
    run(cache=tmp_path / "cache", network=network)
    assert 12 == len(corrupted)


@pytest.mark.parametrize(
    ("owner", "name", "changed"),
    [
        (importlib.metadata, "version", lambda name: f"another {name}"),
        (PIL.features, "version", lambda _: "another"),
        (withstanding, "CODE", withstanding.CODE[:-1]),
    ],
)
def test_other_code_or_libraries_know_nothing(run, corrupted, tmp_path, monkeypatch, owner, name, changed):
    """What mends the resize, or decodes JPEG in another way, must not be mixed with what was seen before."""
    run(cache=tmp_path / "cache")
    monkeypatch.setattr(owner, name, changed)
    run(cache=tmp_path / "cache")
    assert 12 == len(corrupted)


@pytest.mark.parametrize("changed", [*withstanding.CODE, withstanding.__name__])
def test_the_recipe_holds_the_code_on_the_way(monkeypatch, changed):
    """Of each module by itself."""
    subject = SimpleNamespace(preprocessing=trained().preprocessing, device=torch.device("cpu"))
    before = withstanding.recipe(subject)

    def of_code(module):
        return "changed" if module.__name__ == changed else digests.of_code(module)

    monkeypatch.setattr(recipes, "digests", SimpleNamespace(of_code=of_code, of_json=digests.of_json))
    assert before != withstanding.recipe(subject)


def test_a_cache_without_room_costs_no_figures(run, corrupted, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FeatureCache, "add", full)
    assert run().robustness == run(cache=tmp_path / "cache").robustness
    assert "could not be kept, and are computed anew: [Errno 28] No space left" in capsys.readouterr().out


@pytest.mark.parametrize("gone", [KeyError("image"), FileNotFoundError("segment")])
def test_what_goes_from_the_cache_in_between_is_computed(run, corrupted, tmp_path, monkeypatch, gone):
    first = run(cache=tmp_path / "cache")

    def taken_away(*_):
        raise gone

    monkeypatch.setattr(FeatureCache, "gather", taken_away)
    assert first.robustness == run(cache=tmp_path / "cache").robustness
    assert 12 == len(corrupted)


def test_a_backbone_that_has_learnt_leaves_nothing_behind(run, corrupted, tmp_path):
    """No later run will have the same, and the cache would grow for nothing."""
    for _ in range(2):
        run(cache=tmp_path / "cache", network=trained(keeps_backbone=False))
    assert 12 == len(corrupted)
    assert not (tmp_path / "cache").exists()


def test_without_labels_images_are_shown_for_their_answer_and_nothing_is_scored(run, toy_domains):
    """The labels of the images are told as what they are: none."""
    unlabelled = Manifest(toy_domains.target.frame.assign(label=None).astype({"label": "str"}))
    found = run(target=unlabelled)
    targets = [example for example in found.explanations.examples if example.domain == "target"]
    assert targets
    assert all(example.label is None and example.shown_for == example.predicted for example in targets)
    assert Robustness(images=0, notes=["no labelled test image was tried"]) == found.robustness
    assert found.line.endswith("nothing attacked")


def test_images_that_were_trained_on_are_told(run, toy_domains):
    """Where nothing is held out; of a domain with test images nothing is said."""
    training = Manifest(toy_domains.target.frame.assign(split="train"))
    notes = run(target=training).explanations.notes
    assert "images of the target shown here were trained on" in notes[-1]
    assert not any("trained on" in note for note in run().explanations.notes)


def test_without_a_source_the_target_stands_alone(run):
    examples = run(source=Manifest.empty()).explanations.examples
    assert ["target"] * 3 == [example.domain for example in examples]


def test_a_head_without_gradient_is_not_attacked_and_it_says_so(run):
    found = run(network=trained(differentiable=False))
    assert ["eigen_cam", "random"] == [method.method for method in found.explanations.methods]
    assert found.explanations.notes[0].startswith("no gradient passes through this head: EigenCAM only")
    assert [] == found.robustness.attacks
    assert None is found.robustness.pgd_8_accuracy
    assert found.robustness.notes[0].startswith("attacks do not apply")
    assert found.robustness.corruption_accuracy is not None
    assert "attacks do not apply" in found.line


def test_a_backbone_without_spatial_layer_shows_nothing_and_it_says_so(run):
    found = run(network=trained(spatial=False))
    assert ([], None) == (found.explanations.examples, found.explanations.layer)
    assert "no layer of this backbone has a spatial map" in found.explanations.notes[0]


def test_sizes_come_from_params(run):
    found = run(params=explain.Params(classes=1, images=2))
    assert (2, 2) == (len(found.explanations.examples), found.robustness.images)
    nothing = run(params=explain.Params(classes=0, images=0))
    assert (0, 0) == (len(nothing.explanations.examples), nothing.robustness.images)


def test_no_label_of_another_split_is_scored(run, toy_domains):
    """Training images are no evidence of robustness."""
    assert 0 == run(target=toy_domains.target.split("train", "val")).robustness.images


def test_reports_survive_the_file(run, tmp_path):
    report = run().robustness
    report.save(tmp_path / "robustness.json")
    assert report == Robustness.load(tmp_path / "robustness.json")
    assert 6 == json.loads((tmp_path / "robustness.json").read_text())["images"]


def test_classes_that_only_the_source_has_are_not_shown(run, toy_domains):
    found = run(source=Manifest(toy_domains.source.frame.assign(label="other").astype({"label": "str"})))
    assert LabelSpace(classes=["class0", "class1", "class2"]) == toy_domains.labels
    assert {"target"} == {example.domain for example in found.explanations.examples}
