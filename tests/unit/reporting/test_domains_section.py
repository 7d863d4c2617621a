"""The report's section on domains."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.domains import DomainReport, compare
from pipeline.reporting import report
from pipeline.reporting.domains import distance_row, domains

EVIL_LABEL = "<b>x</b>"


@pytest.fixture(scope="module")
def compared() -> DomainReport:
    random = np.random.default_rng(0)
    source, target = random.normal(0, 1, (40, 5)), random.normal(2, 1, (40, 5))
    labels = {"source_labels": ["cat", EVIL_LABEL] * 20, "target_labels": [None, "cat"] * 20}
    return compare(source, target, seed=0, draws=20, map_images=25, **labels)


def section(workspace) -> str:
    page = report.write(workspace.root, workspace.settings).read_text(encoding="utf-8")
    return page.partition('<section id="domains">')[2].partition("</section>")[0]


def test_the_section_has_table_sentences_map_and_shares(workspace, compared):
    """One row per distance, one dot per image and domain, two bars per class, and what the last run says."""
    compared.save(workspace.root / "reports/domains.json")
    nothing = DomainReport(source="last run", sentences=["There is no last run whose target …"])
    nothing.save(workspace.root / "reports/drift.json")
    html = section(workspace)
    assert [name for name in ("proxy A-distance", "CORAL", "MMD", "Fréchet") if name not in html] == []
    assert all(sentence.split(":")[0] in html for sentence in compared.sentences)
    assert (25, 25) == (html.count('r="3" class="point first"><title>'), html.count('class="point second"><title>'))
    assert 0 == html.count('r="3" class="point second"'), "the target has a shape of its own"
    assert "<th></th>" not in html
    assert (2, 2) == (html.count('class="share first"'), html.count('class="share second"'))
    assert "There is no last run whose target …" in html
    assert "source · cat" in html
    assert "target · unlabelled" in html


def test_labels_are_escaped(workspace, compared):
    """A class may be called like a tag."""
    compared.save(workspace.root / "reports/domains.json")
    html = section(workspace)
    assert "<b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html


def test_a_missing_report_costs_its_section_only(workspace):
    """The file and its stage are named."""
    html = section(workspace)
    assert "reports/domains.json" in html
    assert "<em>domains</em>" in html


def test_domains_that_could_not_be_compared_are_a_sentence(workspace):
    """No empty table, no empty map."""
    DomainReport(sentences=["There is no source domain to compare the target with."]).save(
        workspace.root / "reports/domains.json"
    )
    html = section(workspace)
    assert "There is no source domain" in html
    assert "<table>" not in html
    assert "<svg" not in html


def test_many_classes_are_cut_to_those_that_differ_most(compared):
    """And the map names none."""
    shares = {"source_images": 1, "target_images": 1, "source_share": 0.01, "low": 0.0, "high": 0.1}
    classes = [{"label": f"class {number}", "target_share": number / 100, **shares} for number in range(50)]
    raw = compared.model_dump(mode="json")
    raw["prior_shift"] = {"classes": classes, "sentence": "They differ."}
    raw["map"]["label"] = [f"class {number}" for number in range(50)]
    found = domains(raw, None)
    assert found is not None
    assert 40 == str(found.priors).count('class="share')
    assert "class 49" in str(found.priors)
    assert 'class="place"' not in str(found.map)


@pytest.mark.parametrize(
    ("value", "null", "expected"),
    [(97.29, 2.9, ("97.3", "2.9")), (0.149, -0.00004, ("0.149", "−0.000")), (0.0072, 0.001, ("0.0072", "0.0010"))],
)
def test_the_figures_of_a_row_have_as_many_decimals(value, null, expected):
    """As many as its value asks for, with a true minus sign."""
    row = distance_row({"name": "x", "value": value, "low": 0, "high": 1, "null": null, "null_low": 0, "null_high": 0})
    assert expected == (row.value, row.null)
