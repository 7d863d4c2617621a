"""A task on toy domains, for whatever works on one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.models.checkpoints import BackboneWeights
from pipeline.stages import features
from pipeline.training.options import EngineOptions
from pipeline.training.task import Task, make_task


@pytest.fixture(scope="session")
def a_task(lasting_domains: Any, pretrained: BackboneWeights) -> Task:
    """120 target images, half of them labelled: 36 for training, 12 for validation, 12 for the test; 60 of the source.
    Do not change it.
    """
    manifests = {"source_manifest": lasting_domains.source, "target_manifest": lasting_domains.target}
    context = lasting_domains.context()
    tables = features.run(features.Params(), context, backbone=pretrained, **manifests).outputs
    return make_task(
        pretrained,
        lasting_domains.labels,
        lasting_domains.source,
        lasting_domains.target,
        tables["source_features"],
        tables["target_features"],
        EngineOptions(batch_size=8, min_steps_per_epoch=1),
        context,
    )
