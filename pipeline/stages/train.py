"""train: graft the target's classes onto the backbone by the chosen strategy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.core import plugins
from pipeline.core.context import Context, Result
from pipeline.core.device import computing, threads_for
from pipeline.core.errors import TrainingError
from pipeline.core.params import chosen_by_name
from pipeline.training.options import EngineOptions

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.evaluation.domains import DomainReport
    from pipeline.features.table import FeatureTable
    from pipeline.models.checkpoints import BackboneWeights
    from pipeline.models.network import TrainedNetwork
    from pipeline.training.record import TrainingRecord

STRATEGIES = "pipeline.training.strategies"


class Params(EngineOptions):
    """Transfer to the target domain. Everything but the strategy says how the engine runs."""

    strategy: chosen_by_name(STRATEGIES) = "lp_ft"  # type: ignore[valid-type]  # a type made at run time


def inputs_unused(params: Params) -> tuple[str, ...]:
    """How far the domains are apart decides what `auto` tries, and nothing else."""
    return () if params.strategy.name == "auto" else ("domains",)


def run(
    params: Params,
    context: Context,
    *,
    backbone: BackboneWeights,
    label_space: LabelSpace,
    source_manifest: Manifest,
    target_manifest: Manifest,
    source_features: FeatureTable,
    target_features: FeatureTable,
    domains: DomainReport | None = None,
) -> Result:
    """Fit the strategy; equal params, inputs and seed give an equal network on one machine's CPU."""
    from pipeline.models.network import TrainedNetwork
    from pipeline.training import needs
    from pipeline.training.record import Trial, Trials
    from pipeline.training.task import make_task

    strategy = plugins.load(STRATEGIES, params.strategy.name)
    threads = threads_for(params.threads, backbone.preprocessing.size_px)
    task = make_task(
        backbone,
        label_space,
        source_manifest,
        target_manifest,
        source_features,
        target_features,
        params,
        context,
        domains,
    )
    needs.check(params.strategy.name, strategy, task)
    started = time.monotonic()
    with computing(context.device, context.seed, threads) as device:
        network, record, preprocessing, trials = strategy.fit(task, params.strategy, context)
    trained = TrainedNetwork.of(
        network,
        preprocessing=preprocessing or backbone.preprocessing,
        classes=label_space.classes,
        strategy=params.strategy.name if record.chose is None else f"{params.strategy.name}: {record.chose}",
        origin=backbone,
    )
    _check_finite(trained)
    record = record.model_copy(update={"threads": threads, "device": device.type})
    whole = Trial(strategy=record.strategy, seconds=round(time.monotonic() - started, 2), network_mb=trained.size_mb)
    return Result(_line(record), {"network": trained, "training": record, "trials": Trials(rows=[*trials, whole])})


def _check_finite(trained: TrainedNetwork) -> None:
    """The last steps can spoil weights after the last loss was seen; such a network answers nothing."""
    from pipeline.models.network import not_finite

    if bad := not_finite(trained.state):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise TrainingError(
            f"Training with strategy '{trained.facts.strategy}' ended with NaN or infinity in {bad[0]}{more}; no "
            "network was kept. Usually a learning rate is too high: lower the strategy's rates tenfold."
        )


def _line(record: TrainingRecord) -> str:
    labelled = record.images["train"] + record.images["val"]
    accuracy = record.val_accuracy if record.val_accuracy is not None else record.cv_accuracy
    chosen = f" → {record.chose}" if record.chose else ""
    of_source = " of the source" if record.labels_from == "source" else ""
    judged = "" if accuracy is None else f" · {accuracy:.1%} by {record.selection}{of_source}"
    images = f"{labelled:,} labelled {record.labels_from} images" if labelled else "no labelled image"
    return f"{record.strategy}{chosen} · {images}, {len(record.classes)} classes{judged}"
