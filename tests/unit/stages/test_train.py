"""The train stage: its parameters, its line, its refusals. What strategies promise is in tests/contract."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.core.context import Result
from pipeline.core.errors import DataError, ParamsError
from pipeline.data.manifest import Manifest
from pipeline.evaluation.domains import DomainReport
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import random_weights
from pipeline.stages import features, train


def run(toy_domains: Any, **params: Any) -> Result:
    start = random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)
    domains = {"source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    tables = features.run(features.Params(), toy_domains.context(), backbone=start, **domains).outputs
    return train.run(
        train.Params(**params),
        toy_domains.context(),
        backbone=start,
        label_space=toy_domains.labels,
        domains=DomainReport(),
        **domains,
        **tables,
    )


def test_the_line_counts_labels(toy_domains: Any) -> None:
    """Strategy, labelled images, classes, and what the accuracy was measured on."""
    line = run(toy_domains, strategy="probe").line
    assert line.startswith("probe · 24 labelled target images, 3 classes · ")
    assert line.endswith("% by 5-fold cross-validation of the probe")


def test_the_line_does_not_pass_the_probes_accuracy_off_as_that_of_what_followed(toy_domains: Any) -> None:
    """Without a validation split nothing was measured after the probe, so the line says whose accuracy it gives."""
    result = run(toy_domains, strategy={"name": "lp_ft", "epochs": 1}, min_steps_per_epoch=1)
    assert result.line.endswith("% by 5-fold cross-validation of the probe")
    assert result.outputs["training"].val_accuracy is None


def test_an_unknown_strategy_lists_what_exists() -> None:
    """And suggests the nearest name."""
    with pytest.raises(ValidationError, match=r"there are: adabn.*full.*tradaboost.*Did you mean 'probe'"):
        train.Params(strategy="prob")


def test_one_class_is_nothing_to_tell_apart(toy_domains: Any) -> None:
    """The message counts what there is and says what to do."""
    frame = toy_domains.target.frame
    one = toy_domains._replace(target=Manifest(frame.assign(label=frame["label"].where(frame["label"] == "class0"))))
    with pytest.raises(DataError, match=r"found 6 labelled images of 1 class[\s\S]*Label a few images of each class"):
        run(one, strategy="probe")


def test_more_frozen_blocks_than_there_are(toy_domains: Any) -> None:
    """Names the blocks, and the strategy that freezes everything."""
    with pytest.raises(ParamsError, match=r"at most the 4 blocks of small_cnn: stem[\s\S]*use the strategy 'probe'"):
        run(toy_domains, strategy={"name": "partial", "frozen_blocks": 5})


def test_validating_params_imports_nothing_heavy() -> None:
    """The command line must answer at once."""
    code = (
        "import sys, pipeline.stages.train as t, pipeline.stages.backbone, pipeline.stages.features\n"
        "from pipeline.core import plugins\n"
        "[t.Params(strategy=name) for name in plugins.names(t.STRATEGIES)]\n"
        "print(sorted({'torch', 'torchvision', 'sklearn', 'numpy', 'pandas', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_accuracy_without_target_labels_is_that_of_the_source(toy_domains: Any) -> None:
    """The stage's line says whose images they were."""
    frame = toy_domains.target.frame
    unlabelled = toy_domains._replace(target=Manifest(frame.assign(label=None)))
    assert run(unlabelled, strategy="probe").line.endswith("% by validation split of the source")
    assert "of the source" not in run(toy_domains, strategy="probe").line
