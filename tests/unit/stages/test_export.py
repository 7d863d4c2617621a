"""The export stage on the toy domains: one file, and the proof beside it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.images import ImageStore
from pipeline.data.loading import as_tensor
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import preprocess
from pipeline.features.engines import recipe
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.serving import answering, reference
from pipeline.serving.answering import Answering
from pipeline.serving.predictor import Predictor
from pipeline.stages import export

CLASSES = ["class0", "class1", "class2"]


@pytest.fixture(scope="module")
def network():
    """What the stage uses of a trained network."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    preprocessing = Preprocessing(size_px=16, resize_px=18)
    metadata = {"backbone": "tiny", "strategy": "probe"}
    return SimpleNamespace(
        build=lambda: module.eval().requires_grad_(False),
        preprocessing=preprocessing,
        classes=CLASSES,
        metadata=metadata,
        facts=SimpleNamespace(backbone_digest="tiny", preprocessing=preprocessing),
        keeps_backbone=True,
    )


def table(ids=(), features=None, backbone_digest="another", preprocessing_digest="") -> FeatureTable:
    """Of float32 features by torch; the default is of another backbone and no image."""
    rows = np.zeros((0, 4), dtype=np.float32) if features is None else features
    facts = TableFacts(
        backbone="tiny",
        backbone_digest=backbone_digest,
        preprocessing_digest=preprocessing_digest,
        dtype="float32",
        count=len(rows),
        feature_dim=4,
        recipe=recipe("torch", "cpu"),
    )
    return FeatureTable(facts, list(ids), rows)


@pytest.fixture
def run(network, toy_domains):
    def call(params=None, context=None, **changed):
        inputs = {
            "network": network,
            "label_space": toy_domains.labels,
            "target_manifest": toy_domains.target,
            "target_features": table(),
        }
        return export.run(params or export.Params(), context or toy_domains.context(), **(inputs | changed))

    return call


def test_exports_and_compares_on_the_test_images(run, network, toy_domains):
    """All twelve test images, labelled or not, at four batch sizes."""
    result = run(
        export.Params(),
    )
    parity = result.outputs["parity"]
    assert (12, "test", 0) == (parity.images, parity.split, parity.disagreements)
    assert [1, 2, 7, 32] == [batch.batch_size for batch in parity.batches]
    assert "equal answers on 12 test images" in result.line
    assert CLASSES == Predictor(result.outputs["model"]).classes


class InTwo(nn.Module):
    """The same network, as backbone and head."""

    def __init__(self, whole: nn.Sequential) -> None:
        super().__init__()
        self.backbone, self.head = whole[:-1], whole[-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images))


@pytest.fixture
def asked(monkeypatch):
    """Images that the network is asked for, from now on."""
    images, once = [], reference.reference

    def counting(module, preprocessing):
        honest = once(module, preprocessing)
        return lambda group: images.extend(group) or honest(group)

    monkeypatch.setattr(reference, "reference", counting)
    return images


def test_features_of_a_kept_backbone_spare_the_network(run, network, toy_domains, asked):
    """All images have one size, so that nothing is left to ask; features of other images are found out."""
    module = InTwo(network.build()).eval()
    whole = SimpleNamespace(**{**vars(network), "build": lambda: module})
    pixels = list(ImageStore(toy_domains.workspace).pixels(toy_domains.target))
    squares = torch.cat([preprocess(as_tensor(image)[None], network.preprocessing) for image in pixels])
    features, ids = module.backbone(squares).numpy(), toy_domains.target.frame["id"].tolist()
    same = {"backbone_digest": "tiny", "preprocessing_digest": network.preprocessing.digest}
    plain = run(network=whole).outputs["parity"]
    assert 12 == len(asked)
    spared = run(network=whole, target_features=table(ids, features, **same)).outputs["parity"]
    assert (12, "network", "features") == (len(asked), plain.against, spared.against)
    assert spared.max_probability_delta < 1e-5
    others = run(network=whole, target_features=table(ids, features[::-1], **same)).outputs["parity"]
    assert others.max_probability_delta > 1e-3


def test_without_an_image_to_compare_the_gate_decides(run, toy_domains):
    """All of the target may be for validation, where the strategy learns from the source."""
    result = run(target_manifest=toy_domains.target.split("val"))
    assert 0 == result.outputs["parity"].images


def test_the_files_answers_are_kept_for_who_asks_next(run, network, toy_domains, tmp_path, monkeypatch):
    """Evaluate, for the same test images; the file that ships is the one that answered."""
    context = toy_domains.context(cache=tmp_path / "cache")
    model = run(export.Params(parity_images=7), context).outputs["model"]
    test, counted = toy_domains.target.split("test"), []
    expected = Answering(model, toy_domains.context()).of(test, "images")
    monkeypatch.setattr(answering, "track", lambda items, total, **_: counted.append(total) or items)
    np.testing.assert_array_equal(expected, Answering(model, context).of(test, "images"))
    assert [12 - 7] == counted


def test_without_test_images_training_images_are_compared_and_it_says_so(run, network, toy_domains):
    target = toy_domains.target
    result = run(
        export.Params(parity_images=5),
        target_manifest=target.split("train", "val"),
    )
    assert "on 5 train images" in result.line
    assert "train" == result.outputs["parity"].split


def test_torch_keeps_its_threads(run, network, toy_domains):
    """The comparison runs on one thread and gives the others back."""
    before = torch.get_num_threads()
    run(
        export.Params(parity_images=1),
    )
    assert before == torch.get_num_threads()


def test_int8_ships_where_it_loses_little_and_parity_is_of_float32(run, network, toy_domains):
    """The file that ships says it is int8; the proof beside it is of the float32 file."""
    result = run(
        export.Params(int8=True, int8_max_drop=1.0, parity_images=2),
        source_manifest=toy_domains.source,
    )
    parity = result.outputs["parity"]
    assert "int8" == result.outputs["model"].metadata["precision"]
    assert parity.max_probability_delta < 1e-4
    assert parity.quantisation.shipped
    assert parity.quantisation.sentence in result.line
    assert CLASSES == Predictor(result.outputs["model"]).classes


def test_int8_that_loses_too_much_is_refused_in_a_sentence(run, network, toy_domains, monkeypatch):
    """float32 ships, and the line says so."""
    from pipeline.serving import int8_trial

    monkeypatch.setattr(int8_trial, "_figures", lambda *answers: FIGURES)
    result = run(
        export.Params(int8=True, parity_images=2),
    )
    assert "precision" not in result.outputs["model"].metadata
    assert not result.outputs["parity"].quantisation.shipped
    assert (
        " · int8 refused: accuracy 0.834 against 0.856 in float32, drop +0.022 (+0.005 to +0.040) on 800 labelled"
        " validation images, limit 0.01; float32 ships" in result.line
    )


FIGURES = {
    "images": 800,
    "measured_on": "labelled validation images",
    "accuracy": 0.856,
    "accuracy_int8": 0.834,
    "drop": 0.022,
    "drop_low": 0.005,
    "drop_high": 0.04,
    "agreement": 0.9,
}


def test_without_int8_nothing_is_tried(run, network, toy_domains):
    """The default: float32, no trial in the report."""
    result = run(
        export.Params(parity_images=1),
    )
    assert result.outputs["parity"].quantisation is None


def test_the_heads_step_reaches_the_report(run, network, toy_domains):
    """A head of twenty trees moves a probability by at most a twentieth per comparison."""

    class Stepped(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body, self.head = body, nn.Identity()
            self.head.step = 0.05

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(images))

    module = Stepped(network.build()).eval()
    result = run(
        export.Params(parity_images=1),
        network=SimpleNamespace(**{**vars(network), "build": lambda: module}),
    )
    assert 0.05 == result.outputs["parity"].step
