"""Examples of what the network looks at: one image of the target and one of the source for each of a few classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from pipeline.core.progress import track
from pipeline.core.seeding import derive, unit
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.evaluation import saliency
from pipeline.evaluation.explain_report import Example, Explanations, MapScore, MethodScore
from pipeline.evaluation.subject import Subject

PICTURE_PX = 128
"""Side of the pictures in the report."""

COLOURS = 64
"""Of a picture's palette: a photo of this size then takes about 8 kB."""

POOL = 4
"""Where no label says of which class an image is, this many times the classes wanted are answered to choose from."""

NO_LAYER = "no layer of this backbone has a spatial map: there is nothing to show"
NO_GRADIENT = "no gradient passes through this head: EigenCAM only, which shows what stands out to the backbone"

SEEN = (
    "images of the {} shown here were trained on, since none of it is held out: expect surer answers than on new ones"
)

HEAT = np.array([(0, 0, 0), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)])
"""Colours of a map from 0 to 1: dark to bright as in Matplotlib's inferno, readable without colour vision."""


class Chosen(NamedTuple):
    """The images of one domain that are shown, by class."""

    domain: Literal["source", "target"]
    rows: Manifest
    shown_for: list[str]
    """The class that each stands for."""


# -- choosing ----------------------------------------------------------------------------------------------------------


def choose(subject: Subject, target: Manifest, source: Manifest, store: ImageStore, classes: int) -> list[Chosen]:
    """At most one image per domain for each of at most ``classes`` classes, by a lot that only the images' ids decide.

    Target images come from the test split where there is one, and test labels say which class they are shown for; they
    choose nothing of the model. An image without label is shown for the answer it gets.
    Classes that both domains have come first.
    """
    pool = _by_lot(_held_out(target, "test"))
    known = pool.where(pool.frame["label"].isin(subject.classes))
    if not len(known):
        pool = Manifest(pool.frame.iloc[: POOL * classes])
        known = _relabelled(pool, _answers(subject, pool, store))
    partners = _by_lot(_held_out(source.where(source.frame["label"].isin(subject.classes)), "test", "val"))
    wanted = _wanted(subject.classes, set(known.frame["label"]), set(partners.frame["label"]), classes)
    return [
        Chosen("target", *_first_of(known, wanted, pool)),
        Chosen("source", *_first_of(partners, wanted, partners)),
    ]


def _held_out(manifest: Manifest, *splits: str) -> Manifest:
    """The first of the splits that has images; everything where none has."""
    return next((manifest.split(name) for name in splits if len(manifest.split(name))), manifest)


def _by_lot(manifest: Manifest) -> Manifest:
    lots = manifest.frame["id"].map(lambda image_id: unit(0, "example", image_id)).astype(float)
    return Manifest(manifest.frame.iloc[np.argsort(lots.to_numpy(), kind="stable")].reset_index(drop=True))


def _answers(subject: Subject, manifest: Manifest, store: ImageStore) -> list[str]:
    return [subject.classes[int(subject.answers(subject.squares([image]))[0])] for image in store.pixels(manifest)]


def _relabelled(manifest: Manifest, labels: Sequence[str]) -> Manifest:
    return Manifest(manifest.frame.assign(label=pd.Series(labels, dtype="str")))


def _wanted(classes: Sequence[str], target: set[str], source: set[str], count: int) -> list[str]:
    """At most ``count`` classes in the model's order: evenly over those of both domains, then over the target's own."""
    both = _spread([label for label in classes if label in target & source], count)
    others = _spread([label for label in classes if label in target - source], count - len(both))
    return [label for label in classes if label in {*both, *others}]


def _spread(names: list[str], count: int) -> list[str]:
    if len(names) <= count:
        return names
    return [names[number * len(names) // count] for number in range(count)]


def _first_of(known: Manifest, wanted: Sequence[str], original: Manifest) -> tuple[Manifest, list[str]]:
    """The first row of each class, with its label as the data have it."""
    labels = known.frame["label"].tolist()
    places = [labels.index(name) for name in wanted if name in labels]
    ids = known.frame["id"].iloc[places]
    frame = original.frame.drop_duplicates("id").set_index("id", drop=False).loc[ids].reset_index(drop=True)
    return Manifest(frame), [labels[place] for place in places]


# -- explaining --------------------------------------------------------------------------------------------------------


def explain(subject: Subject, chosen: Sequence[Chosen], store: ImageStore, folder: Path, seed: int) -> Explanations:
    """Maps of every chosen image, their pictures in ``folder``, and how well the answers follow them."""
    total = sum(len(part.rows) for part in chosen)
    if not total:
        return Explanations(layer=None, notes=["no image to show"])
    images = [image for part in chosen for image in store.pixels(part.rows)]
    layer = saliency.find_layer(subject.network.backbone, subject.normalised(subject.squares(images[:1])))
    if layer is None:
        return Explanations(layer=None, notes=[NO_LAYER])
    entries = [
        _Entry(part.domain, shown_for, row)
        for part in chosen
        for shown_for, row in zip(part.shown_for, part.rows.frame.to_dict("records"), strict=True)
    ]
    examples = [
        _example(subject, layer, image, entry, _Album(folder, number), seed)
        for number, (image, entry) in enumerate(
            track(zip(images, entries, strict=True), what="maps", unit="images", total=total)
        )
    ]
    examples.sort(key=lambda example: subject.classes.index(example.shown_for))  # stable: the target's stay first
    return Explanations(
        layer=layer.name,
        grid=layer.grid,
        examples=examples,
        methods=_means(examples),
        notes=[
            *([] if saliency.is_differentiable(subject.network) else [NO_GRADIENT]),
            *(SEEN.format(part.domain) for part in chosen if part.rows.frame["split"].eq("train").any()),
        ],
    )


class _Entry(NamedTuple):
    """An image to be explained; ``row`` is the manifest's."""

    domain: Literal["source", "target"]
    shown_for: str
    row: dict[Any, Any]


class _Album:
    """Pictures of one example."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number

    def keep(self, name: str, square: np.ndarray, saliency_map: np.ndarray | None = None) -> str:
        """Save a picture and return its file's name."""
        file = f"{self._number:02d}-{name}.png"
        picture(square, saliency_map).save(self._folder / file, optimize=True)
        return file


def _example(
    subject: Subject,
    layer: saliency.SpatialLayer,
    image: np.ndarray,
    entry: _Entry,
    album: _Album,
    seed: int,
) -> Example:
    squares = subject.squares([image])
    normalised = subject.normalised(squares)
    probabilities = subject.probabilities(squares)[0]
    answer = int(probabilities.argmax())
    maps = {method: found[0] for method, found in saliency.maps_of(subject.network, layer, normalised).items()}
    maps["random"] = saliency.random_map(layer.grid, subject.side_px, derive(seed, "random map", entry.row["id"]))
    square = squares[0].permute(1, 2, 0).cpu().numpy()

    def probability(images: Tensor) -> Tensor:
        return subject.network(images).softmax(1)[:, answer]

    def score(method: str, found: Tensor) -> MapScore:
        file = None if method == "random" else album.keep(method, square, found.cpu().numpy())
        curves = saliency.follow(probability, normalised[0], found.to(subject.device))
        return MapScore(method=method, file=file, deletion=curves.deletion, insertion=curves.insertion)

    return Example(
        name=str(entry.row["name"]),
        domain=entry.domain,
        shown_for=entry.shown_for,
        label=None if pd.isna(entry.row["label"]) else str(entry.row["label"]),
        predicted=subject.classes[answer],
        confidence=float(probabilities[answer]),
        image=album.keep("image", square),
        maps=[score(method, found) for method, found in maps.items()],
    )


def _means(examples: Iterable[Example]) -> list[MethodScore]:
    scores = pd.DataFrame([found.model_dump() for example in examples for found in example.maps])
    means = scores.groupby("method", sort=False)[["deletion", "insertion"]].mean()
    return [
        MethodScore(method=str(method), deletion=float(row["deletion"]), insertion=float(row["insertion"]))
        for method, row in means.iterrows()
    ]


# -- pictures ----------------------------------------------------------------------------------------------------------


def picture(square: np.ndarray, saliency_map: np.ndarray | None = None) -> Image.Image:
    """A prepared square [S, S, 3] in [0, 255], alone or under a map [S, S] in [0, 1], as a small palette image."""
    pixels = np.clip(square, 0, 255).round().astype(np.uint8)
    size = (PICTURE_PX, PICTURE_PX)
    is_enlarged = len(square) < PICTURE_PX
    shown = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if is_enlarged else Image.Resampling.LANCZOS)
    if saliency_map is not None:
        enlarged = Image.fromarray(saliency_map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        shown = _under(np.asarray(shown, dtype=np.float32), np.clip(np.asarray(enlarged), 0, 1)[:, :, None])
    return shown.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)


def _under(pixels: np.ndarray, heat: np.ndarray) -> Image.Image:
    """The image in grey, the hotter the more covered by the map's colours."""
    grey = pixels.mean(axis=2, keepdims=True)
    places = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(heat[:, :, 0], places, HEAT[:, channel]) for channel in range(3)], axis=2)
    cover = 0.25 + 0.5 * heat
    return Image.fromarray(((1 - cover) * grey + cover * colours).round().astype(np.uint8))
