"""``graftline explain-domains``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from integration_tools import graftline
from typer.testing import CliRunner

from flows import sequence
from pipeline.cli.app import app
from pipeline.evaluation.domains import DomainReport, compare
from pipeline.workspace import TEMPLATES


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose stages have run up to ``domains``."""
    shutil.copy(TEMPLATES / "digits.yaml", tmp_path / "params.yaml")
    random = np.random.default_rng(0)
    source, target = random.normal(0, 1, (40, 5)), random.normal(2, 1, (40, 5))
    labels = {"source_labels": ["a", "b"] * 20, "target_labels": ["a", "b"] * 20}
    compare(source, target, seed=0, draws=20, map_images=0, **labels).save(tmp_path / "reports/domains.json")
    DomainReport(source="last run", sentences=["There is no last run."]).save(tmp_path / "reports/drift.json")
    monkeypatch.setattr(sequence, "bring_up_to_date", lambda run, last: run.say(f"until {last}"))
    return tmp_path


def test_it_prints_the_table_and_the_verdict_and_names_the_report(workspace):
    """One line per distance; sentences below; the page is there."""
    result = CliRunner().invoke(app, ["explain-domains", "-C", str(workspace)])
    assert 0 == result.exit_code
    lines = result.output.splitlines()
    assert "until domains" == lines[0]
    assert "source → target: far" in lines
    assert ["proxy", "CORAL", "MMD", "Fréchet"] == [line.split()[0] for line in lines[4:8]]
    assert (
        "  proxy A-distance and MMD: 95 % intervals, MMD squared. CORAL and Fréchet: range over half samples, biased "
        "upwards; compare with the null level only." == lines[8]
    )
    assert "  There is no last run." in lines
    assert any("the classes occur as often in both" in line for line in lines)
    assert lines[-1].endswith("report/index.html#domains")
    assert (workspace / "report/index.html").is_file()


def test_a_folder_that_is_no_workspace_is_exit_2(tmp_path):
    """Nothing is made in it."""
    done = graftline("explain-domains", workspace=tmp_path)
    assert 2 == done.returncode
    assert "params.yaml" in done.stderr
    assert "graftline init" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_a_wrong_value_is_exit_2_and_named(tmp_path):
    """``draws: 3`` is too few for an interval."""
    text = (TEMPLATES / "digits.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("domains: {}", "domains: {draws: 3}"))
    done = graftline("explain-domains", workspace=tmp_path)
    assert 2 == done.returncode
    assert "domains.draws" in done.stderr
    assert "20" in done.stderr
