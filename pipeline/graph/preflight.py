"""What params.yaml alone tells that a run would stumble over, minutes from its start or hours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import plugins
from pipeline.core.errors import DataError
from pipeline.graph import outside
from pipeline.graph.table import STAGES
from pipeline.models.backbones import backbone
from pipeline.stages.train import STRATEGIES
from pipeline.training.needs import NEEDS

if TYPE_CHECKING:
    from pipeline.params import Settings

NO_SOURCE = "ingest.source: null"


def check(workspace: Path, settings: Settings) -> None:
    """See that what stages read from outside is there, a source where one is learnt from, and a backbone that the
    strategy can work on. Costs no import of torch.

    Raises:
        DataError, WeightsError, ParamsError: with the key to set.
    """
    for stage in STAGES:
        outside.check(workspace, stage, settings)
    check_source(settings)
    check_strategy(settings)


def check_source(settings: Settings) -> None:
    """See that there is a source where the backbone is pretrained on its labels, or the strategy asks for one.

    Raises:
        DataError: there is none.
    """
    if settings.ingest.source is not None:
        return
    if settings.backbone.pretrains and settings.backbone.pretrain.objective == "supervised":
        raise DataError(
            expected="labelled source images to pretrain on",
            found=NO_SOURCE,
            where="backbone.weights: pretrain in params.yaml",
            remedy="Name a labelled source under ingest.source, set backbone.weights to pretrained weights (none for "
            "random ones), or backbone.pretrain.objective to one that needs no labels: autoencoder or rotation.",
        )
    name = settings.train.strategy.name
    if "source" in plugins.load(STRATEGIES, name).NEEDS:
        need = NEEDS["source"]
        raise DataError(
            expected=f"{need.phrase} for strategy '{name}'",
            found=NO_SOURCE,
            where="train.strategy.name in params.yaml",
            remedy=need.remedy,
        )


def check_strategy(settings: Settings) -> None:
    """Let the strategy look at each backbone it may be given: a module may have ``check(params, row)``.

    Raises:
        ParamsError: what it would raise of one after the stages before it.
    """
    strategy = plugins.load(STRATEGIES, settings.train.strategy.name)
    if hasattr(strategy, "check"):
        for _, choice in settings.backbone.choices:
            strategy.check(settings.train.strategy, backbone(choice.name))
