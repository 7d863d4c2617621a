"""The bill of materials: valid CycloneDX, true to what it was made from, and equal each time."""

from __future__ import annotations

import datetime
import json
import re

import onnx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipeline.serving import bill_of_materials
from pipeline.serving.onnx_file import OnnxFile, encode_property
from pipeline.serving.packages import Package

CLASSES = ["class0", "class1", "class2"]
PACKAGES = [
    Package("graftline", "0.1.0", ("torch",)),
    Package("numpy", "2.3.1", ()),
    Package("torch", "2.13.0+cpu", ("numpy",)),
]
DOMAIN = {"images": 60, "labelled": 30, "ids_digest": "1" * 64, "labels_digest": "2" * 64}
REPORTS = {
    "metrics": {"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 0.92, "ece": 0.031, "f1_macro": None},
    "validation": {"profile": {"target": DOMAIN, "source": {**DOMAIN, "images": 0, "ids_digest": ""}}},
}


@pytest.fixture(scope="module")
def model(tiny_model):
    """As the export stage leaves it, with the digests in its metadata."""
    loaded = onnx.load_model_from_string(tiny_model.content)
    more = {"backbone_digest": "3" * 64, "backbone_origin": "torchvision IMAGENET1K_V1"}
    onnx.helper.set_model_props(
        loaded, {key: encode_property(value) for key, value in {**tiny_model.metadata, **more}.items()}
    )
    return OnnxFile(loaded.SerializeToString(deterministic=True))


def render(model, name="bars", reports=REPORTS, packages=PACKAGES):
    return bill_of_materials.render(name, model, CLASSES, reports, packages)


def component(bill, ref):
    (found,) = [entry for entry in bill["components"] if entry["bom-ref"] == ref]
    return found


@pytest.mark.parametrize("name", ["bars", "a name & <more> “quoted”"])
@pytest.mark.parametrize("reports", [REPORTS, {**REPORTS, "metrics": {"accuracy": None}}], ids=["scored", "unscored"])
def test_it_is_valid_cyclonedx(model, name, reports):
    """By the format's own schema, strictly."""
    text = render(model, name, reports)
    assert None is JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert ("CycloneDX", "1.6") == (json.loads(text)["bomFormat"], json.loads(text)["specVersion"])


def test_the_schema_would_notice():
    """The validation above is one: an unknown key is refused."""
    wrong = {"bomFormat": "CycloneDX", "specVersion": "1.6", "madeBy": "me"}
    assert None is not JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(wrong))


def test_it_describes_the_model(model):
    """The file that ships, by its sha256, with a card of task, architecture, data, inputs, outputs and figures."""
    described = json.loads(render(model))["metadata"]["component"]
    assert ("machine-learning-model", "bars") == (described["type"], described["name"])
    assert [{"alg": "SHA-256", "content": model.digest}] == described["hashes"]
    card = described["modelCard"]["modelParameters"]
    assert ("image classification", "tiny") == (card["task"], card["modelArchitecture"])
    assert [{"ref": "data-target"}] == card["datasets"]
    assert ["images: uint8 RGB [batch, height, width, 3], any height and width"] == [
        entry["format"] for entry in card["inputs"]
    ]
    assert ["logits: float32 [batch, 3]", "probabilities: float32 [batch, 3], rows sum to 1"] == [
        entry["format"] for entry in card["outputs"]
    ]
    accuracy, ece = described["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert ("accuracy", "0.7500", "test") == (accuracy["type"], accuracy["value"], accuracy["slice"])
    assert {"lowerBound": "0.5000", "upperBound": "0.9200"} == accuracy["confidenceInterval"]
    assert ("ece", "0.0310", False) == (ece["type"], ece["value"], "confidenceInterval" in ece)


def test_it_names_what_the_model_was_made_from(model):
    """The backbone's weights and each data set that has images, by their digests."""
    bill = json.loads(render(model))
    backbone, target = component(bill, "backbone"), component(bill, "data-target")
    assert ("machine-learning-model", "3" * 64) == (backbone["type"], backbone["hashes"][0]["content"])
    assert "Weights before the transfer: torchvision IMAGENET1K_V1" == backbone["description"]
    assert ("data", "1" * 64, "dataset") == (target["type"], target["hashes"][0]["content"], target["data"][0]["type"])
    assert [{"name": "graftline:labels_digest", "value": "2" * 64}] == target["properties"]
    assert "data-source" not in {entry["bom-ref"] for entry in bill["components"]}


def test_it_names_what_the_model_was_made_with(model):
    """Every package by its address, and who asks for whom."""
    bill = json.loads(render(model))
    libraries = {entry["name"]: entry for entry in bill["components"] if entry["type"] == "library"}
    assert {package.name: package.version for package in PACKAGES} == {
        name: entry["version"] for name, entry in libraries.items()
    }
    assert "pkg:pypi/torch@2.13.0%2Bcpu" == libraries["torch"]["purl"]
    asks = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert ["backbone", "data-target", "pkg:pypi/graftline@0.1.0"] == asks["model"]
    assert ["pkg:pypi/numpy@2.3.1"] == asks["pkg:pypi/torch@2.13.0%2Bcpu"]


def test_equal_contents_make_an_equal_bill(model):
    """No clock and no random number; another content has another serial number."""
    first = render(model)
    assert first == render(model)
    assert str(datetime.date.today().year) not in re.sub(r'"content": "[0-9a-f]+"', "", first)
    serials = {json.loads(text)["serialNumber"] for text in (first, render(model, name="other"))}
    assert 2 == len(serials)


def test_a_model_of_unknown_origin_has_a_bill_too(tiny_model):
    """Without a backbone's digest there is no backbone to name."""
    bill = json.loads(render(tiny_model))
    assert "backbone" not in {entry["bom-ref"] for entry in bill["components"]}
