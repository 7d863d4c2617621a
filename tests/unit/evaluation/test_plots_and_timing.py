"""Tables for DVC's plots, and the stopwatch."""

from __future__ import annotations

import time

import numpy as np

from pipeline.evaluation import plots
from pipeline.evaluation.report import ReliabilityBin
from pipeline.evaluation.timing import MIN_RUNS, take_turns


def test_three_tables_with_headers(tmp_path):
    """Empty bins are left out; epochs are counted on over all phases."""
    bins = [
        ReliabilityBin(low=0.0, high=0.5, images=0, confidence=None, accuracy=None),
        ReliabilityBin(low=0.5, high=1.0, images=4, confidence=0.75, accuracy=0.5),
    ]
    epoch = {
        "phase": "probe",
        "epoch": 1,
        "train_loss": 2.0,
        "val_loss": None,
        "val_accuracy": 0.5,
        "learning_rate": 0.1,
    }
    plots.write(
        tmp_path,
        actual=["cat", "dog"],
        predicted=["cat", "cat"],
        reliability=bins,
        history=[epoch, epoch | {"phase": "tune"}],
    )
    assert "actual,predicted\ncat,cat\ndog,cat\n" == (tmp_path / "confusion.csv").read_text()
    assert "confidence,accuracy,images\n0.75,0.5,4\n" == (tmp_path / "reliability.csv").read_text()
    assert (
        "step,phase,epoch,train_loss,val_loss,val_accuracy,learning_rate\n1,probe,1,2.0,,0.5,0.1\n2,tune,1,2.0,,0.5,0.1\n"
        == (tmp_path / "curves.csv").read_text()
    )


def test_tables_of_nothing_still_have_their_headers(tmp_path):
    plots.write(tmp_path, actual=[], predicted=[], reliability=[], history=[])
    assert ["actual,predicted\n", "confidence,accuracy,images\n"] == [
        (tmp_path / f"{name}.csv").read_text() for name in ("confusion", "reliability")
    ]


def test_calls_take_turns_as_often_as_asked():
    order: list[str] = []
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, runs=20)
    assert {"a": 20, "b": 20} == {name: len(taken) for name, taken in times.items()}
    assert ["a", "b"] * 20 == order[10:]


def test_slow_calls_stop_at_the_budget_but_not_before_ten():
    times = take_turns({"slow": lambda: time.sleep(0.002)}, runs=1000, budget_s=0.0)
    assert MIN_RUNS == len(times["slow"])
    assert np.median(times["slow"]) >= 2.0
