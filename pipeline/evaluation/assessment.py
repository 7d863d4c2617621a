"""The whole judgement of a challenger: its own scores, and beside the champion and the baseline on the same images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.seeding import derive
from pipeline.data.manifest import Manifest
from pipeline.evaluation import baseline, scoring
from pipeline.evaluation.comparison import compare, other_classes
from pipeline.evaluation.report import Comparison
from pipeline.evaluation.scoring import Answers

NO_LABELS = (
    "no labelled test image: nothing can be scored; label some images, and keep a share of them for testing "
    "(ingest.test_share) or give a test split"
)
NO_CHAMPION = "no champion yet: this model is the first"


class Panel(NamedTuple):
    """A model's answers to every test image, in the manifest's order."""

    title: str
    classes: list[str]
    probabilities: NDArray[np.floating]
    """[images, classes]"""

    @property
    def predicted(self) -> NDArray[np.str_]:
        """Names of the most probable classes, [images]."""
        return np.array(self.classes, dtype=str)[self.probabilities.argmax(1)]


class Trial:
    """One trial: the labelled images of the split, the challenger's answers to them, and what may stand beside it."""

    def __init__(
        self, manifest: Manifest, challenger: Panel, champion: Panel | None, *, resamples: int, seed: int
    ) -> None:
        self.images = manifest.split("test")
        self.rows = np.flatnonzero(self.images.frame["label"].isin(challenger.classes))
        self.labels = self.images.frame["label"].to_numpy(dtype=object)[self.rows].astype(str)
        self.challenger, self.champion = challenger, champion
        self._manifest, self._resamples, self._seed = manifest, resamples, seed

    def figures(self, features: NDArray[np.floating]) -> dict[str, Any]:
        """Fields of :class:`~pipeline.evaluation.report.Metrics`; ``features`` [rows, D] are those of the manifest."""
        if not len(self.rows):
            return {"images": 0, "notes": [NO_LABELS]}
        ours, theirs = self._answers(self.challenger), self._champion_answers()
        slices = self._slices(ours)
        comparisons = [entry for entry in (self._against_champion(), self._against_baseline(features)) if entry]
        return {
            "images": len(self.rows),
            **scoring.overall(ours, resamples=self._resamples, seed=derive(self._seed, "bootstrap")),
            **self._champion_figures(theirs),
            **_comparison_figures(comparisons),
            "confusion": ours.confusion.tolist(),
            "per_class": scoring.per_class(ours, self.challenger.classes, theirs),
            "slices": slices,
            "gaps": scoring.gaps([score for score in slices if score.column in self.images.slices]),
            "reliability": scoring.reliability_bins(ours),
            "comparisons": comparisons,
            "notes": self._notes(),
        }

    def _answers(self, panel: Panel) -> Answers:
        return Answers(_numbers(self.labels, self.challenger.classes), panel.probabilities[self.rows])

    def _champion_answers(self) -> Answers | None:
        """The champion's answers with its classes in the challenger's order; None where the classes differ."""
        if self.champion is None or other_classes(self.champion.classes, self.challenger.classes):
            return None
        order = _numbers(self.challenger.classes, self.champion.classes)
        return self._answers(self.champion._replace(probabilities=self.champion.probabilities[:, order]))

    def _correct(self, panel: Panel) -> NDArray[np.bool_]:
        return panel.predicted[self.rows] == self.labels

    def _against_champion(self) -> Comparison | None:
        """On the images whose class both can answer; None where there is no champion or no such image."""
        if self.champion is None:
            return None
        shared = np.isin(self.labels, self.champion.classes)
        if not shared.any():
            return None
        return self._compare(
            "champion",
            self.champion.title,
            self._correct(self.champion)[shared],
            self._correct(self.challenger)[shared],
            problem=other_classes(self.champion.classes, self.challenger.classes),
        )

    def _against_baseline(self, features: NDArray[np.floating]) -> Comparison:
        """Class means over the labelled images that are not test; where there are none, the best constant answer."""
        frame = self._manifest.frame
        is_test = (frame["split"] == "test").to_numpy()
        is_known = frame["label"].isin(self.challenger.classes).to_numpy() & ~is_test
        name, truth = baseline.CLASS_MEANS, _numbers(self.labels, self.challenger.classes)
        if is_known.any():
            known = _numbers(frame["label"][is_known], self.challenger.classes)
            said = baseline.class_means(features[is_known], known, features[is_test][self.rows])
        else:
            name, said = baseline.CONSTANT, np.full(len(truth), baseline.most_frequent(truth))
        return self._compare("baseline", name, said == truth, self._correct(self.challenger))

    def _compare(
        self, against: str, name: str, theirs: NDArray[np.bool_], ours: NDArray[np.bool_], problem: str | None = None
    ) -> Comparison:
        seed = derive(self._seed, "bootstrap", against)
        return compare(against, name, ours, theirs, resamples=self._resamples, seed=seed, problem=problem)

    def _champion_figures(self, theirs: Answers | None) -> dict[str, float]:
        if theirs is None:
            return {}
        scores = scoring.overall(theirs, resamples=1, seed=0) | scoring.calibration(theirs)
        return {f"champion_{name}": scores[name] for name in ("balanced_accuracy", "f1_macro", "ece", "brier")}

    def _slices(self, ours: Answers) -> list[scoring.SliceScore]:
        columns = self.images.frame[["domain", *self.images.slices]].iloc[self.rows].reset_index(drop=True)
        champion = self._correct(self.champion) if self.champion else None
        return scoring.per_slice(columns, ours.correct, champion)

    def _notes(self) -> list[str]:
        notes = [] if self.champion else [NO_CHAMPION]
        unlabelled = len(self.images) - len(self.rows)
        if unlabelled:
            notes.append(f"{unlabelled} test images have no label: answered, not scored")
        untested = sorted(set(self.challenger.classes) - set(self.labels))
        if untested:
            notes.append(f"no labelled test image of: {', '.join(untested)}")
        return notes


def _comparison_figures(comparisons: list[Comparison]) -> dict[str, float]:
    """The flat figures ``champion_accuracy``, ``gain_over_champion`` and the same for the baseline."""
    figures: dict[str, float] = {}
    for entry in comparisons:
        figures |= {f"{entry.against}_accuracy": entry.accuracy, f"gain_over_{entry.against}": entry.gain}
    return figures


def _numbers(names: Any, classes: list[str]) -> NDArray[np.int64]:
    """Positions of ``names`` in ``classes``."""
    return pd.Index(classes).get_indexer(pd.Index(names)).astype(np.int64)
