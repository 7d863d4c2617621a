"""Score the exported file, and the champion, on the target's test images; everything through ONNX Runtime.

Labels of the test split are used here, and to score in explain, and nowhere else.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.core import params as base
from pipeline.core.context import Context, Result
from pipeline.core.files import Folder
from pipeline.core.seeding import unit

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.evaluation.assessment import Panel, Trial
    from pipeline.evaluation.champion import ChampionPin
    from pipeline.evaluation.report import Latency, Metrics
    from pipeline.features.table import FeatureTable
    from pipeline.serving.answering import Answering
    from pipeline.serving.onnx_file import OnnxFile
    from pipeline.training.record import TrainingRecord

LEAKS_NAMED = 20
"""At most this many leaked images are named in the report."""


class Params(base.Params):
    """How to score; nothing here changes the model."""

    bootstrap: int = Field(2000, ge=100, description="resamples behind the 95 % intervals of F1 and of what was gained")
    source_images: int = Field(1000, ge=0, description="at most this many held-out source images are scored")
    label_images: int = Field(
        20_000, ge=0, description="at most this many labels of train and val are looked at for wrong ones; 0: none"
    )
    latency_runs: int = Field(100, ge=10, description="timed calls at batch 1; fewer where they would take over 3 s")


def run(
    params: Params,
    context: Context,
    *,
    model: OnnxFile,
    champion: ChampionPin,
    label_space: LabelSpace,
    source_manifest: Manifest,
    target_manifest: Manifest,
    target_features: FeatureTable,
    training: TrainingRecord,
) -> Result:
    """Answer every test image with both models, then score the answers to the labelled ones."""
    from pipeline.evaluation.assessment import Trial
    from pipeline.evaluation.predictions import Predictions
    from pipeline.serving.answering import Answering, forget_others
    from pipeline.serving.onnx_file import OnnxFile

    pinned = champion.file(context.workspace)
    champion_model = OnnxFile.load(pinned) if pinned else None
    challenger = Answering(model, context)
    reigning = Answering(champion_model, context) if champion_model else None
    test = target_manifest.split("test")
    ours = _panel("challenger", challenger, test)
    theirs = _panel(champion.title, reigning, test) if reigning else None
    trial = Trial(target_manifest, ours, theirs, resamples=params.bootstrap, seed=context.seed)
    metrics = _metrics(
        trial.figures(target_features.array),
        _source_figures(challenger, source_manifest, params),
        _leak_figures(target_manifest, source_manifest),
        _label_figures(target_manifest, target_features, label_space, params),
        classes=label_space.classes,
        champion=[champion.title, champion_model.digest] if champion_model else [],
        model_size_mb=model.size_mb,
        champion_size_mb=champion_model.size_mb if champion_model else None,
    )
    latency = _latency(model, champion_model, test, params, context)
    forget_others([challenger, reigning] if reigning else [challenger])
    outputs = {
        "metrics": metrics,
        "latency": latency,
        "predictions": Predictions.of(test, ours.probabilities, ours.classes, theirs and list(theirs.predicted)),
        "plots": _plots(trial, metrics, training, context),
    }
    return Result(_line(metrics, latency), outputs)


def _panel(title: str, answering: Answering, test: Manifest) -> Panel:
    from pipeline.evaluation.assessment import Panel

    return Panel(title, answering.predictor.classes, answering.of(test, f"test images · {title}"))


def _metrics(*parts: dict[str, Any], **fields: Any) -> Metrics:
    """One report of several parts; their lists are joined."""
    from pipeline.evaluation.report import Metrics

    for part in parts:
        for name, value in part.items():
            fields[name] = fields[name] + value if isinstance(fields.get(name), list) else value
    return Metrics(**fields)


def _source_figures(answering: Answering, source_manifest: Manifest, params: Params) -> dict[str, Any]:
    """Accuracy on held-out source images of the target's classes: the test split, or val where there is none."""
    import pandas as pd

    from pipeline.evaluation.scoring import per_slice

    known = source_manifest.where(source_manifest.frame["label"].isin(answering.predictor.classes))
    held_out = _sample(known.split("test") if len(known.split("test")) else known.split("val"), params.source_images)
    if not len(held_out):
        return {}
    panel = _panel("source", answering, held_out)
    correct = panel.predicted == held_out.frame["label"].to_numpy(dtype=object).astype(str)
    slices = per_slice(pd.DataFrame({"domain": held_out.frame["domain"]}), correct)
    return {"source_accuracy": float(correct.mean()), "source_images": len(held_out), "slices": slices}


def _sample(manifest: Manifest, count: int) -> Manifest:
    """At most ``count`` images, always the same for the same images."""
    lot = manifest.frame["id"].map(lambda digest: unit(0, "source sample", digest))
    return manifest.where(lot.rank(method="first") <= count)


def _leak_figures(target_manifest: Manifest, source_manifest: Manifest) -> dict[str, Any]:
    from pipeline.evaluation.leakage import leaked

    names = leaked(target_manifest, source_manifest)
    return {"leaked_images": len(names), "leaks": names[:LEAKS_NAMED]}


def _label_figures(
    target_manifest: Manifest, target_features: FeatureTable, label_space: LabelSpace, params: Params
) -> dict[str, Any]:
    from pipeline.evaluation.suspects import review

    found = review(target_manifest, target_features.array, label_space.classes, at_most=params.label_images)
    if found is None:
        return {}
    return {"suspect_labels": found.suspects if found.trusted else None, "label_review": [found]}


def _latency(
    challenger: OnnxFile, reigning: OnnxFile | None, test: Manifest, params: Params, context: Context
) -> Latency:
    """Time both models in turns, on all cores, on one image of the median size."""
    import numpy as np

    from pipeline.evaluation.report import Latency
    from pipeline.evaluation.timing import take_turns
    from pipeline.serving.predictor import Predictor

    image = _typical_image(challenger, test, context)
    models = {"": challenger} | ({"champion_": reigning} if reigning else {})
    predictors = {name: Predictor(model) for name, model in models.items()}
    times = take_turns({name: partial(one.run, image) for name, one in predictors.items()}, runs=params.latency_runs)
    figures = {
        f"{name}p{percent}_ms": round(float(np.percentile(taken, percent)), 3)
        for name, taken in times.items()
        for percent in (50, 95)
    }
    return Latency(**figures, runs=len(times[""]), height_px=image.shape[1], width_px=image.shape[2])


def _typical_image(model: OnnxFile, test: Manifest, context: Context) -> Any:
    """The test image of median area as a batch of one, uint8 [1, height, width, 3]; grey where there is no image."""
    import numpy as np

    from pipeline.data.images import ImageStore

    if not len(test):
        side_px = model.metadata["preprocessing"]["resize_px"]
        return np.full((1, side_px, side_px, 3), 128, dtype=np.uint8)
    by_area = (test.frame["width"] * test.frame["height"]).rank(method="first")
    middle = test.where(by_area == len(test) // 2 + 1)
    return next(ImageStore(context.workspace, workers=1).pixels(middle))[None]


def _plots(trial: Trial, metrics: Metrics, training: TrainingRecord, context: Context) -> Folder:
    from pipeline.evaluation import plots

    folder = context.empty_folder("plots")
    plots.write(
        folder,
        actual=trial.labels,
        predicted=trial.challenger.predicted[trial.rows],
        reliability=metrics.reliability,
        history=[epoch.model_dump() for epoch in training.history],
    )
    return Folder(folder)


def _line(metrics: Metrics, latency: Latency) -> str:
    doubts = f" · {metrics.suspect_labels:,} labels in doubt" if metrics.suspect_labels else ""
    time = f"{latency.p50_ms:.1f} ms an image{doubts}"
    if metrics.accuracy is None:
        return f"no labelled test image, nothing scored · {time}"
    interval = f"{metrics.accuracy_low:.3f}–{metrics.accuracy_high:.3f}"
    champion = metrics.comparison("champion")
    beside = f" · {champion.gain:+.3f} against {champion.name}" if champion else ""
    return f"accuracy {metrics.accuracy:.3f} ({interval}) on {metrics.images:,} test images{beside} · {time}"
