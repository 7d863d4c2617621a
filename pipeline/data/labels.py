"""The label space: which classes the model answers with, and how the source's names map onto them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np

from pipeline.core.errors import DataError, ParamsError
from pipeline.core.files import Document


class LabelSpace(Document):
    """``classes`` are the target's, in the order of the model's outputs."""

    classes: list[str]
    source_only: list[str] = []
    """Source classes with no counterpart in the target: their images are left out of transfer, and reported. They keep
    their labels, because pretraining on the source can use every one of them."""
    target_only: list[str] = []
    """Target classes the source does not have."""

    @classmethod
    def between(cls, target: Iterable[str], source: Iterable[str], classes: Sequence[str] | None = None) -> Self:
        """Of the labels that occur; the source's are already in the target's words (:func:`mapped`).

        The target decides. A target with no label at all takes the source's classes: that is what unsupervised
        adaptation answers with. ``classes`` settles names and order where it is given.

        Raises:
            DataError: neither has a label, and ``classes`` is not given.
            ParamsError: ``classes`` names one twice, or lacks one that target images have.
        """
        target, source = set(target), set(source)
        if classes is not None:
            _check_classes(classes, target)
            missing = [label for label in classes if source and label not in source]
            unknown = sorted(source - set(classes), key=natural_key)
            return cls(classes=list(classes), source_only=unknown, target_only=missing)
        if not target | source:
            raise DataError(
                expected="labels in the target or in the source",
                found="none in either: every image is unlabelled",
                where="ingest.target and ingest.source in params.yaml",
                remedy="Sort some images into class folders, or add a label column to the table; where a checkpoint's "
                "own head shall answer, name its classes in ingest.classes.",
            )
        return cls(
            classes=sorted(target or source, key=natural_key),
            source_only=sorted(source - target if target else (), key=natural_key),
            target_only=sorted(target - source if source else (), key=natural_key),
        )

    @property
    def shared(self) -> list[str]:
        """Classes that both domains have."""
        return [label for label in self.classes if label not in self.target_only]

    def indices(self, labels: Iterable[str]) -> np.ndarray:
        """Class numbers, int64 of shape (n,), for labels that are all in ``classes``."""
        position = {label: number for number, label in enumerate(self.classes)}
        return np.array([position[label] for label in labels], dtype=np.int64)


def _check_classes(classes: Sequence[str], target: set[str]) -> None:
    """Each name once, and every label of the target among them."""
    twice = sorted({label for label in classes if classes.count(label) > 1})
    absent = sorted(target - set(classes), key=natural_key)
    if twice or absent or len(classes) < 2:
        found = f"'{twice[0]}' twice" if twice else f"target images of '{absent[0]}'" if absent else f"{len(classes)}"
        raise ParamsError(
            expected="two classes or more, each named once, and every label of the target among them",
            found=found,
            where="ingest.classes in params.yaml",
            remedy="Add or remove the name; null takes the labels that occur.",
        )


def natural_key(label: str) -> tuple[tuple[bool, int, str], ...]:
    """Sorts as people do: ``2`` before ``10``, ``class 2`` before ``class 10``; ties by the text itself."""
    pieces = re.split(r"([0-9]+)", label)
    return (
        *((piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece.casefold()) for piece in pieces if piece),
        (False, 0, label),
    )


def check_label_map(label_map: Mapping[str, str], source: Iterable[str], target: Iterable[str]) -> None:
    """Each key must be a class of the source, each value one of the target (unless the target has no labels).

    Raises:
        ParamsError: naming the first unknown one and the nearest that exists.
    """
    source, target = set(source), set(target)
    for key, value in label_map.items():
        if key not in source:
            raise _unknown(key, "source", source)
        if target and value not in target:
            raise _unknown(value, "target", target)


def _unknown(label: str, domain: str, known: set[str]) -> ParamsError:
    nearest = difflib.get_close_matches(label, known, n=1)
    listed = ", ".join(sorted(known, key=natural_key)[:20]) or "none"
    return ParamsError(
        expected=f"classes of the {domain}: {listed}{', …' if len(known) > 20 else ''}",
        found=f"'{label}'",
        where="ingest.label_map in params.yaml (source class: target class)",
        remedy=f"Did you mean '{nearest[0]}'?" if nearest else "Use names that occur, or take the entry out.",
    )
