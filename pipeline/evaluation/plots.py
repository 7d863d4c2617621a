"""Tables for ``dvc plots show``: one CSV file per figure, in the shape that DVC's templates read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.evaluation.report import ReliabilityBin

CURVES = ("step", "phase", "epoch", "train_loss", "val_loss", "val_accuracy", "learning_rate")


def write(
    folder: Path,
    *,
    actual: Iterable[str],
    predicted: Iterable[str],
    reliability: list[ReliabilityBin],
    history: list[dict[str, Any]],
) -> None:
    """Write ``confusion.csv``, ``reliability.csv`` and ``curves.csv``; each has its header even where nothing is known.

    ``history`` has one mapping per epoch, in order; ``step`` counts epochs over all phases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "confusion": pd.DataFrame({"actual": list(actual), "predicted": list(predicted)}),
        "reliability": _filled_bins(reliability),
        "curves": _curves(history),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _filled_bins(reliability: list[ReliabilityBin]) -> pd.DataFrame:
    rows = [entry.model_dump(include={"confidence", "accuracy", "images"}) for entry in reliability if entry.images]
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "images"])


def _curves(history: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [{"step": step, **epoch} for step, epoch in enumerate(history, start=1)]
    return pd.DataFrame(rows, columns=list(CURVES))
