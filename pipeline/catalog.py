"""Every artefact by name: where it lies in a workspace and what type reads and writes it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

Kind = Literal["data", "metrics", "plots", "pinned"]


class Saved(Protocol):
    """What an artefact's type offers."""

    @classmethod
    def load(cls, path: Path) -> Self: ...

    def save(self, path: Path) -> None: ...


class Artefact(NamedTuple):
    """``kind`` says how DVC keeps it: ``data`` in its cache; ``metrics`` and ``plots`` as such, beside the code;
    ``pinned`` is an input that the flow sets before the stages run, so that stages stay functions of files; before the
    first run it is its type's ``empty()``."""

    name: str
    path: str
    type_path: str
    kind: Kind = "data"

    def type(self) -> type[Saved]:
        """The class, imported only when it is needed."""
        module, name = self.type_path.split(":")
        return getattr(importlib.import_module(module), name)

    def load(self, workspace: Path) -> Any:
        return self.type().load(workspace / self.path)


_ARTEFACTS = (
    Artefact("shards", "data/shards", "pipeline.core.files:Folder"),
    Artefact("source_inventory", "data/inventory/source.parquet", "pipeline.data.manifest:Manifest"),
    Artefact("target_inventory", "data/inventory/target.parquet", "pipeline.data.manifest:Manifest"),
    Artefact("label_space", "data/labels.json", "pipeline.data.labels:LabelSpace"),
    Artefact("data_profile", "state/data_profile.json", "pipeline.data.profile:DataProfile", "pinned"),
    Artefact("source_manifest", "data/manifest/source.parquet", "pipeline.data.manifest:Manifest"),
    Artefact("target_manifest", "data/manifest/target.parquet", "pipeline.data.manifest:Manifest"),
    Artefact("validation", "reports/validation.json", "pipeline.data.validation:ValidationReport"),
    Artefact("data_docs", "reports/data_docs", "pipeline.core.files:Folder"),
    Artefact("backbone", "models/backbone", "pipeline.models.checkpoints:BackboneWeights"),
    Artefact("ranking", "reports/ranking.json", "pipeline.training.ranking.report:Ranking"),
    Artefact("source_features", "features/source", "pipeline.features.table:FeatureTable"),
    Artefact("target_features", "features/target", "pipeline.features.table:FeatureTable"),
    Artefact("previous_domain", "state/previous_domain.npz", "pipeline.evaluation.domain_card:DomainCard", "pinned"),
    Artefact("domains", "reports/domains.json", "pipeline.evaluation.domains:DomainReport"),
    Artefact("drift", "reports/drift.json", "pipeline.evaluation.domains:DomainReport"),
    Artefact("domain_card", "features/domain_card.npz", "pipeline.evaluation.domain_card:DomainCard"),
    Artefact("network", "models/network", "pipeline.models.network:TrainedNetwork"),
    Artefact("training", "reports/training.json", "pipeline.training.record:TrainingRecord"),
    Artefact("trials", "reports/trials.json", "pipeline.training.record:Trials"),
    Artefact("model", "models/model.onnx", "pipeline.serving.onnx_file:OnnxFile"),
    Artefact("parity", "reports/parity.json", "pipeline.serving.parity_report:ParityReport"),
    Artefact("champion", "state/champion.json", "pipeline.evaluation.champion:ChampionPin", "pinned"),
    Artefact("metrics", "reports/metrics.json", "pipeline.evaluation.report:Metrics", "metrics"),
    Artefact("latency", "reports/latency.json", "pipeline.evaluation.report:Latency", "metrics"),
    Artefact("predictions", "reports/predictions.parquet", "pipeline.evaluation.predictions:Predictions"),
    Artefact("plots", "reports/plots", "pipeline.core.files:Folder", "plots"),
    Artefact("explanations", "reports/explanations", "pipeline.core.files:Folder"),
    Artefact("robustness", "reports/robustness.json", "pipeline.evaluation.explain_report:Robustness", "metrics"),
    Artefact("verdict", "reports/verdict.json", "pipeline.gates._base:Verdict"),
    Artefact("bundle", "bundle", "pipeline.core.files:Folder"),
)

CATALOG = {artefact.name: artefact for artefact in _ARTEFACTS}
