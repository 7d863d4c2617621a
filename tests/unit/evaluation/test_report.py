"""The report as DVC reads it."""

from __future__ import annotations

import json

from dvc.repo.metrics.show import _extract_metrics

from pipeline.evaluation.report import ClassScore, Comparison, Latency, Metrics


def metrics() -> Metrics:
    gain = Comparison(
        against="champion",
        name="bars v3",
        images=30,
        accuracy=0.8,
        gain=0.1,
        gain_low=0.0,
        gain_high=0.2,
        fixed=3,
        broken=0,
    )
    score = ClassScore(label="cat", images=3, precision=None, recall=1.0, recall_low=0.4, recall_high=1.0, f1=None)
    return Metrics(
        images=30,
        accuracy=0.9,
        model_size_mb=1.5,
        classes=["cat"],
        per_class=[score],
        comparisons=[gain],
        notes=["something"],
    )


def test_dvc_shows_flat_numbers_and_nothing_else():
    """``dvc metrics show`` has one column per figure: no texts, no details, no nulls."""
    shown = _extract_metrics(json.loads(metrics().model_dump_json()), "metrics.json")
    assert {
        "images": 30,
        "accuracy": 0.9,
        "source_images": 0,
        "model_size_mb": 1.5,
        "leaked_images": 0,
    } == shown


def test_a_comparison_is_found_by_whom_it_is_against():
    assert "bars v3" == metrics().comparison("champion").name
    assert metrics().comparison("baseline") is None


def test_reports_survive_the_file(tmp_path):
    latency = Latency(p50_ms=1.0, p95_ms=2.0, runs=50, height_px=20, width_px=24)
    for report in (metrics(), latency):
        report.save(tmp_path / "report.json")
        assert report == type(report).load(tmp_path / "report.json")
