"""The hand-off bundle: everything deployment needs, in one folder that proves itself.

model.onnx        uint8 images in, logits and probabilities out; nothing else is needed to run it
labels.txt        one class per line, in the order of the outputs
MODEL_CARD.md     what it is, how good it is, what it is not for
bom.cdx.json      what it was made from and with: a CycloneDX bill of materials
manifest.json     sha256 and size of every other file, and the facts about the model
golden/           images with the answers they must get
triton/NAME/      the same file as a Triton model repository
model.sig         added when it is handed off: who vouches for all of the above (``pipeline.serving.signature``)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline import __version__
from pipeline.core import digests
from pipeline.core.errors import BundleError
from pipeline.core.files import Document
from pipeline.serving import triton
from pipeline.serving.golden import Golden, tolerance
from pipeline.serving.layout import BILL, CARD, LABELS, MANIFEST, MODEL, SIGNATURE
from pipeline.serving.onnx_file import MB, OnnxFile
from pipeline.serving.predictor import Predictor


class Contents(NamedTuple):
    """What goes into a bundle."""

    name: str
    """The registered model's name."""
    model: OnnxFile
    classes: list[str]
    golden_names: list[str]
    golden_images: list[Any]
    """uint8 [height, width, 3] each, in the order of their names."""
    card: str
    """Markdown."""
    bill: str
    """CycloneDX JSON."""
    facts: dict[str, Any]
    """For ``manifest.json``: JSON values, and none that a clock would change."""
    triton: bool = True


class FileEntry(Document):
    """One file of the bundle."""

    sha256: str
    bytes: int


class BundleManifest(Document):
    """``manifest.json``."""

    name: str
    model_sha256: str
    classes: list[str]
    graftline: str
    model: dict[str, Any]
    """Metadata of the ONNX file: backbone, strategy, preprocessing, digests."""
    facts: dict[str, Any]
    """``passed``: did it pass its gates; ``data``: the profile of the data it was trained on."""
    files: dict[str, FileEntry]
    """Every other file by its path in the bundle."""


class Checked(NamedTuple):
    """What :func:`verify` looked at."""

    files: int
    size_mb: float
    golden_images: int
    max_probability_delta: float


def write(folder: Path, contents: Contents) -> None:
    """Fill an empty ``folder``; equal contents make equal bytes."""
    contents.model.save(folder / MODEL)
    (folder / LABELS).write_text("".join(f"{name}\n" for name in contents.classes), encoding="utf-8")
    (folder / CARD).write_text(contents.card, encoding="utf-8")
    (folder / BILL).write_text(contents.bill, encoding="utf-8")
    Golden.record(Predictor(contents.model), contents.golden_names, contents.golden_images).save(folder)
    if contents.triton:
        triton.write(folder / "triton", contents.name, contents.model, contents.classes)
    metadata = contents.model.metadata
    BundleManifest(
        name=contents.name,
        model_sha256=contents.model.digest,
        classes=contents.classes,
        graftline=__version__,
        model={key: value for key, value in metadata.items() if key != "classes"},
        facts=contents.facts,
        files={name: _entry(folder / name) for name in _files(folder)},
    ).save(folder / MANIFEST)


def read(folder: Path) -> BundleManifest:
    """The manifest of a bundle.

    Raises:
        BundleError: not a bundle.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise _broken(folder, f"no {MANIFEST}")
    try:
        return BundleManifest.load(path)
    except (ValidationError, UnicodeDecodeError) as problem:
        raise _broken(folder, f"a {MANIFEST} that is not one of Graftline's") from problem


def verify(folder: Path) -> Checked:
    """Prove a bundle: every file has its digest, none is missing or added, and the golden images get their answers.

    Raises:
        BundleError: something is not as recorded; the message names it.
    """
    manifest = read(folder)
    present = _files(folder)
    if different := sorted(set(present) ^ set(manifest.files)):
        found = "missing" if different[0] in manifest.files else "not in the manifest"
        raise _broken(folder, f"{different[0]}, which is {found}")
    for name, entry in manifest.files.items():
        if _entry(folder / name) != entry:
            raise _broken(folder, f"{name} with another digest than recorded")
    golden, predictor = Golden.load(folder), Predictor(folder)
    delta = golden.difference(predictor)
    if delta > tolerance(predictor.metadata):
        raise _broken(folder, f"answers to the golden images that differ by {delta:.1e} from those recorded")
    size_mb = sum(entry.bytes for entry in manifest.files.values()) / MB
    return Checked(len(present) + 1, size_mb, len(golden.names), delta)


def _files(folder: Path) -> list[str]:
    """Every file but the manifest and the signature over it, as sorted paths within the bundle."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name not in (MANIFEST, SIGNATURE))


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=digests.of_file(path), bytes=path.stat().st_size)


def _broken(folder: Path, found: str) -> BundleError:
    return BundleError(
        expected="a whole hand-off bundle, every file as manifest.json records it",
        found=found,
        where=str(folder),
        remedy="Copy the bundle again, or package the model anew with 'graftline run'.",
    )
