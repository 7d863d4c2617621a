"""``graftline contribute``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_tasks import blobs, feature_task
from integration_tools import graftline
from typer.testing import CliRunner

from flows import sequence
from pipeline.catalog import CATALOG
from pipeline.cli.app import app
from pipeline.core.errors import DataError
from pipeline.training import task as task_module
from pipeline.training.classifiers.federation import Statistics
from pipeline.workspace import TEMPLATES


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose stages are up to date: 60 images of three classes, and three of them of class c in train."""
    (tmp_path / "params.yaml").write_text((TEMPLATES / "digits.yaml").read_text())
    data = blobs(60)
    kept = np.flatnonzero((data.labels != 2) | (np.arange(60) < 12))
    prepared = feature_task(None, type(data)(data.features[kept], data.labels[kept]), workspace=tmp_path)
    monkeypatch.setattr(sequence, "bring_up_to_date", lambda run, last: run.say(f"until {last}"))
    monkeypatch.setattr(type(CATALOG["backbone"]), "load", lambda artefact, workspace: artefact.name)
    monkeypatch.setattr(task_module, "make_task", lambda **inputs: prepared)
    return tmp_path


def contributed(workspace: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["contribute", "-o", str(workspace / "site.npz"), "-C", str(workspace), *options])


def test_it_brings_the_features_up_to_date_and_says_what_leaves(workspace):
    """Classes with fewer than five labelled images stay out by default."""
    result = contributed(workspace)
    assert 0 == result.exit_code, result.output
    assert "until features" == result.output.splitlines()[0]
    written = Statistics.load(workspace / "site.npz")
    assert [20, 20, 0] == written.sums.counts.tolist()
    assert "sums over 40 images of 2 classes (1 with too few left out) × 256 features" in result.output


def test_the_minimum_can_be_lowered(workspace):
    """With two images as the minimum everything is in the sums."""
    contributed(workspace, "--min-count", "2")
    assert [20, 20, 4] == Statistics.load(workspace / "site.npz").sums.counts.tolist()


def test_one_image_is_no_minimum(workspace):
    """The sum over one image is that image's features."""
    result = contributed(workspace, "--min-count", "1")
    assert 2 == result.exit_code
    assert "--min-count" in result.output
    assert not (workspace / "site.npz").exists()


def test_nothing_is_written_where_every_class_is_too_small(workspace):
    """A contribution of zeros helps nobody."""
    result = contributed(workspace, "--min-count", "21")
    assert isinstance(result.exception, DataError)
    assert 2 == result.exception.exit_code
    assert "a class with 21 labelled images to send sums over; found 20 in the largest of 3 classes" in str(
        result.exception
    )
    assert "lower --min-count" in str(result.exception)
    assert not (workspace / "site.npz").exists()


def test_the_help_tells_what_several_contributions_reveal():
    """Sums can be subtracted."""
    text = " ".join(CliRunner().invoke(app, ["contribute", "--help"]).output.replace("│", " ").split())
    assert "two contributions that differ by one image reveal its features and label" in text


def test_a_folder_that_is_no_workspace_is_exit_2(tmp_path):
    """Nothing is written."""
    done = graftline("contribute", "-o", "site.npz", workspace=tmp_path)
    assert 2 == done.returncode
    assert "graftline init" in done.stderr
    assert not (tmp_path / "site.npz").exists()


def test_contributions_are_deps_of_train(tmp_path):
    """A file that another site sends anew makes train stale; one that is missing is named before anything runs."""
    from pipeline import params
    from pipeline.graph import outside
    from pipeline.graph.table import BY_NAME

    (tmp_path / "params.yaml").write_text(
        (TEMPLATES / "digits.yaml").read_text().split("\ntrain:")[0]
        + "\ntrain: {strategy: {name: federated, statistics: [sites/north.npz]}}\n"
    )
    settings = params.load(tmp_path)
    assert ["sites/north.npz"] == [place.path for place in outside.places(BY_NAME["train"], settings)]
    with pytest.raises(DataError, match=r"'sites/north\.npz', which does not exist"):
        outside.check(tmp_path, BY_NAME["train"], settings)
