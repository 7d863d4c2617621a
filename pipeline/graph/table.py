"""The stage graph: one row per stage. ``dvc.yaml`` is rendered from it and the flow has a task for each row."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

    from pipeline.params import Settings


class Stage(NamedTuple):
    """A stage reads the params section of its own name, ``shared`` keys, and its inputs, and writes its outputs."""

    name: str
    summary: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[str, ...] = ()
    plugins: tuple[tuple[str, str | None], ...] = ()
    """(package, key in params.yaml): only the chosen plug-in's file is in the stage's key; with no key, all are."""
    files: tuple[str, ...] = ()
    """Files and folders beside the code that belong to it, relative to the repository."""

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"pipeline.stages.{self.name}")

    def inputs_used(self, settings: Settings) -> tuple[str, ...]:
        """The inputs that these settings make use of; a stage's module says so where it does not use all."""
        unused = getattr(self.module, "inputs_unused", None)
        left_out = unused(settings.section(self.name)) if unused else ()
        return tuple(name for name in self.inputs if name not in left_out)


SOURCES = "pipeline.data.sources"
STRATEGIES = "pipeline.training.strategies"
GATES = "pipeline.gates"

STAGES = (
    Stage(
        "ingest",
        "read every image once: digest, size, perceptual hash, split",
        inputs=(),
        outputs=("shards", "source_inventory", "target_inventory", "label_space"),
        shared=("seed",),
        plugins=((SOURCES, "ingest.target.name"), (SOURCES, "ingest.source.name")),
    ),
    Stage(
        "validate",
        "hold the data against the expectations",
        inputs=("source_inventory", "target_inventory", "label_space", "data_profile"),
        outputs=("source_manifest", "target_manifest", "validation", "data_docs"),
        files=("pipeline/data/suites", "pipeline/data/data_docs.css"),
    ),
    Stage(
        "backbone",
        "pretrain on the source, fetch a checkpoint, or choose among several",
        inputs=("label_space", "source_manifest", "target_manifest"),
        outputs=("backbone", "ranking"),
        shared=("seed",),
    ),
    Stage(
        "features",
        "frozen-backbone features of every image, through the cache",
        inputs=("backbone", "source_manifest", "target_manifest"),
        outputs=("source_features", "target_features"),
    ),
    Stage(
        "domains",
        "how far the target is from the source, and from the last run's",
        inputs=(
            "label_space",
            "source_manifest",
            "target_manifest",
            "source_features",
            "target_features",
            "previous_domain",
        ),
        outputs=("domains", "drift", "domain_card"),
        shared=("seed",),
    ),
    Stage(
        "train",
        "transfer to the target's classes by the chosen strategy",
        inputs=(
            "backbone",
            "label_space",
            "source_manifest",
            "target_manifest",
            "source_features",
            "target_features",
            "domains",
        ),
        outputs=("network", "training", "trials"),
        shared=("seed",),
        plugins=((STRATEGIES, "train.strategy.name"), (STRATEGIES, "train.strategy.teacher.name")),
    ),
    Stage(
        "export",
        "ONNX with the preprocessing inside, proven equal to torch",
        inputs=("network", "label_space", "target_manifest", "target_features", "source_manifest"),
        outputs=("model", "parity"),
    ),
    Stage(
        "evaluate",
        "score the exported file, and the champion, on the test images",
        inputs=(
            "model",
            "champion",
            "label_space",
            "source_manifest",
            "target_manifest",
            "target_features",
            "training",
        ),
        outputs=("metrics", "latency", "predictions", "plots"),
        shared=("seed",),
    ),
    Stage(
        "explain",
        "what the network looks at, and how it stands against attacks and corruptions",
        inputs=("network", "label_space", "source_manifest", "target_manifest"),
        outputs=("explanations", "robustness"),
        shared=("seed",),
    ),
    Stage(
        "gate",
        "judge the evidence",
        inputs=("metrics", "latency", "parity", "validation", "training", "robustness"),
        outputs=("verdict",),
        plugins=((GATES, None),),
    ),
    Stage(
        "package",
        "the hand-off directory: model, labels, card, bill of materials, golden pairs",
        inputs=(
            "model",
            "verdict",
            "metrics",
            "latency",
            "parity",
            "validation",
            "training",
            "robustness",
            "label_space",
            "target_manifest",
        ),
        outputs=("bundle",),
        shared=("model",),
    ),
)

BY_NAME = {stage.name: stage for stage in STAGES}
