"""The bill of materials: the model, what it was made from and what it was made with, as CycloneDX 1.6 JSON (an ML-BOM).

Filled in from the reports, the file's metadata and the installed packages. It has no clock's reading and no random
number in it: equal reports and packages make an equal bill, and its serial number is drawn from its content.
"""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Iterator
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from pipeline.core import digests
from pipeline.serving.onnx_file import OnnxFile
from pipeline.serving.packages import ROOT, Package

MODEL = "model"
BACKBONE = "backbone"
CARD = "model-card"

METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "worst_class_recall", "ece")
"""Those of the evaluation that the card quotes, where they were measured."""


def render(
    name: str, model: OnnxFile, classes: list[str], reports: dict[str, dict[str, Any]], packages: list[Package]
) -> str:
    """The bill as JSON text.

    Args:
        name: the registered model's name.
        model: the file that ships.
        classes: in the order of the outputs.
        reports: ``metrics`` and ``validation``, as JSON values.
        packages: what :func:`pipeline.serving.packages.made_with` found.
    """
    data = list(_data_sets(reports["validation"]["profile"]))
    document = json.loads(JsonV1Dot6(_bom(name, model, data, packages)).output_as_string())
    # the library always writes the time and a random number
    del document["metadata"]["timestamp"], document["serialNumber"]
    document["metadata"]["component"]["modelCard"] = _card(model.metadata, classes, reports, data)  # it knows of none
    for component in document["components"]:
        if component["type"] == ComponentType.DATA.value:
            component["data"] = [{"type": "dataset", "name": component["name"]}]
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, digests.of_json(document)).urn
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _bom(name: str, model: OnnxFile, data: list[Component], packages: list[Package]) -> Bom:
    facts = model.metadata
    whole = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=MODEL,
        name=name,
        version=model.digest[:12],
        description=f"Image classifier: {facts.get('backbone', 'a network')} transferred by "
        f"{facts.get('strategy', 'an unknown strategy')}",
        hashes=[_sha256(model.digest)],
        properties=_properties({key: facts.get(key) for key in ("strategy", "precision", "weights_digest")}),
    )
    backbone = list(_backbone(facts))
    libraries = {package.name: _library(package) for package in packages}
    python = Component(
        type=ComponentType.PLATFORM,
        bom_ref="python",
        name=platform.python_implementation(),
        version=platform.python_version(),
    )
    bom = Bom(components=[*backbone, *data, *libraries.values(), python])
    bom.metadata.component = whole
    code = [libraries[ROOT]] if ROOT in libraries else list(libraries.values())
    bom.register_dependency(whole, [*backbone, *data, *code])
    for package in packages:
        bom.register_dependency(libraries[package.name], [libraries[need] for need in package.needs])
    return bom


def _backbone(facts: dict[str, Any]) -> Iterator[Component]:
    """The weights that the transfer started from."""
    if "backbone_digest" in facts:
        yield Component(
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=BACKBONE,
            name=facts["backbone"],
            version=facts["backbone_digest"][:12],
            description=f"Weights before the transfer: {facts['backbone_origin']}",
            hashes=[_sha256(facts["backbone_digest"])],
        )


def _data_sets(profile: dict[str, dict[str, Any]]) -> Iterator[Component]:
    """One for each domain that has images. Its hash is over the sorted sha256 of its images."""
    for domain, images in profile.items():
        if images["images"]:
            yield Component(
                type=ComponentType.DATA,
                bom_ref=f"data-{domain}",
                name=f"{domain} domain",
                version=images["labels_digest"][:12],
                description=f"{images['images']} images, {images['labelled']} labelled",
                hashes=[_sha256(images["ids_digest"])],
                properties=_properties({"labels_digest": images["labels_digest"]}),
            )


def _library(package: Package) -> Component:
    url = PackageURL("pypi", name=package.name, version=package.version)
    return Component(type=ComponentType.LIBRARY, bom_ref=str(url), name=package.name, version=package.version, purl=url)


def _card(
    facts: dict[str, Any], classes: list[str], reports: dict[str, dict[str, Any]], data: list[Component]
) -> dict[str, Any]:
    """The CycloneDX model card, in its basics; ``MODEL_CARD.md`` beside it tells the rest."""
    answers = f"float32 [batch, {len(classes)}]"
    return {
        "bom-ref": CARD,
        "modelParameters": {
            "task": "image classification",
            "architectureFamily": "neural network",
            "modelArchitecture": facts.get("backbone", "unknown"),
            "datasets": [{"ref": str(component.bom_ref.value)} for component in data],
            "inputs": [{"format": "images: uint8 RGB [batch, height, width, 3], any height and width"}],
            "outputs": [{"format": f"logits: {answers}"}, {"format": f"probabilities: {answers}, rows sum to 1"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(reports["metrics"]))},
        "considerations": {
            "useCases": [f"Tell which of {len(classes)} classes an image shows; labels.txt names them in order."],
            "technicalLimitations": ["It answers with one of its classes, also for an image of none of them."],
        },
    }


def _metrics(metrics: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """On the test images, with the 95 % interval where there is one."""
    for name in METRICS:
        if metrics.get(name) is None:
            continue
        measured: dict[str, Any] = {"type": name, "value": f"{metrics[name]:.4f}", "slice": "test"}
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        if low is not None and high is not None:
            measured["confidenceInterval"] = {"lowerBound": f"{low:.4f}", "upperBound": f"{high:.4f}"}
        yield measured


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _properties(values: dict[str, Any]) -> list[Property]:
    return [Property(name=f"graftline:{name}", value=str(value)) for name, value in values.items() if value is not None]
