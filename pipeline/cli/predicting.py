"""``predict``: answers from a bundle by ONNX Runtime, once onnx has looked into it; torch and MLflow are not loaded.

A bundle is verified before anything of it is loaded.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from pipeline.cli import handed
from pipeline.cli.app import CURRENT, Workspace, app, say, say_json
from pipeline.core.errors import DataError, InputError


class Answer(NamedTuple):
    """The most probable class of one image; ``confidence`` is its probability."""

    image: str
    label: str
    confidence: float
    probabilities: dict[str, float]


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help=handed.MODEL_HELP)],
    images: Annotated[list[str], typer.Argument(help="Image files, or folders of them; hidden ones are left out.")],
    workspace: Workspace = CURRENT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, with every probability.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="image,label,confidence with a header.")] = False,
    key: Annotated[Path | None, typer.Option(help=handed.KEY_HELP)] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Load a bundle whatever its signature says.")
    ] = False,
) -> None:
    """Classify images by a bundle whose signature holds. Unreadable images are named on standard error; exit code 2."""
    if as_json and as_csv:
        raise InputError(expected="one output format", found="--json and --csv", where="predict", remedy="Drop one.")
    bad: dict[str, str] = {}
    place = handed.find(model, workspace, "predict")
    handed.prove_before_loading(place, workspace, key, unverified=unverified)
    answers = _answers(place, _files(images), bad)
    (_write_json if as_json else _write_csv if as_csv else _write_text)(answers)
    if bad:
        raise DataError(
            expected="readable images",
            found=f"{len(bad)} that cannot be read: {_causes(bad)}",
            where="the images given to predict",
            remedy="Replace or leave out: " + ", ".join(bad),
        )


NAMED_CAUSES = 3
"""Unreadable images of which is said why."""


def _causes(bad: dict[str, str]) -> str:
    causes = [f"{name} {why}" for name, why in islice(bad.items(), NAMED_CAUSES)]
    return "; ".join(causes) + "; …" * (len(bad) > NAMED_CAUSES)


def _files(images: list[str]) -> list[Path]:
    found: list[Path] = []
    for text in images:
        path = Path(text)
        if not path.exists():
            raise DataError(
                expected="an image or a folder of images",
                found=f"'{text}', which does not exist",
                where="graftline predict",
                remedy="Download it, and give the file." if "://" in text else "Check the path.",
            )
        inside = sorted(_below(path)) if path.is_dir() else [path]
        if not inside:
            raise DataError(
                expected="an image or a folder of images",
                found=f"no image in {path}",
                where="graftline predict",
                remedy="Name another folder; images are known by their suffix (.jpg, .png, …).",
            )
        found += inside
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Its images, and those of visible folders in it."""
    from pipeline.data.image_files import is_image_name

    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files if is_image_name(name))


def _answers(model: Path, files: list[Path], bad: dict[str, str]) -> Iterator[Answer]:
    """Answers in the order of ``files``; unreadable ones are added to ``bad``, with why."""
    from pipeline.serving.predictor import Predictor

    predictor = Predictor(model)
    for file, probabilities in predictor.stream(files, leave_out=bad.__setitem__):
        best = int(probabilities.argmax())
        every = {label: round(float(p), 6) for label, p in zip(predictor.classes, probabilities, strict=True)}
        yield Answer(str(file), predictor.classes[best], float(probabilities[best]), every)


def _write_text(answers: Iterator[Answer]) -> None:
    for answer in answers:
        say(f"{answer.confidence:6.1%}  {answer.label:<20}  {answer.image}")


def _write_json(answers: Iterator[Answer]) -> None:
    for answer in answers:
        say_json(answer._asdict())


def _write_csv(answers: Iterator[Answer]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["image", "label", "confidence"])
    for answer in answers:
        writer.writerow([answer.image, answer.label, f"{answer.confidence:.6f}"])
